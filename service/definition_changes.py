"""Changes of definitions as requests make them: on the version that was read, and on record.

What can be wrong with a change is answered as a problem: 404, 409, 412, 413, 422 or 503.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from fastapi import Request

from anabranch.definition_records import Document
from anabranch.definition_set import DefinitionSet
from anabranch.plans import Status
from anabranch.reading import DefinitionError
from service.audit import Audit
from service.callers import actor_of
from service.definition_errors import (
    DefinitionTooLargeError,
    InvalidChangeError,
    LogUnavailableError,
    VersionConflictError,
)
from service.definition_log import DefinitionLog
from service.experiment_states import ChangeRefusedError
from service.json_changes import differences
from service.problems import Kind, Problem
from service.variation_changes import NoVariationError
from streams.live_definitions import LiveDefinitions

Write = Callable[[], Awaitable[Document]]

_TAG = re.compile(r'"([^"]*)"')
_LONGEST_ACTOR = 256


class DefinitionChanges:
    def __init__(self, log: DefinitionLog, definitions: LiveDefinitions, audit: Audit) -> None:
        self.log = log
        self._definitions = definitions
        self._audit = audit

    def current(self) -> DefinitionSet:
        """As this process has them, from its last snapshot while Kafka is away."""
        if not self._definitions.are_known:
            raise Problem(
                Kind.DEFINITIONS_UNAVAILABLE,
                self._definitions.reader.problem or "the definition log has not been read yet",
                headers={"Retry-After": "2"},
            )
        return self._definitions.current

    def document(self, key: str) -> Document | None:
        """Deleted ones as well."""
        self.current()
        return self.log.documents.get(key)

    async def make(
        self,
        request: Request,
        action: str,
        key: str,
        based_on: Document | None,
        status: Status,
        definition: Mapping[str, Any],
        comment: str,
    ) -> Document:
        """Write what follows the document that was read, or what is new where there is none."""

        async def write() -> Document:
            return await self.log.change(
                key,
                0 if based_on is None else based_on.version,
                cast(Any, status.value),
                definition,
                actor_of(request)[:_LONGEST_ACTOR],
                comment,
            )

        return await self.recorded(
            request, action, key, based_on, {"status": status.value, **definition}, comment, write
        )

    async def recorded(
        self,
        request: Request,
        action: str,
        key: str,
        based_on: Document | None,
        wanted: Mapping[str, Any],
        comment: str,
        write: Write,
    ) -> Document:
        """A change that `write` makes, in the audit log; its failures as problems."""
        before = None if based_on is None else state_of(based_on)
        try:
            document = await write()
        except VersionConflictError as error:
            raise self.conflict(request, key, based_on, error.current) from error
        except LogUnavailableError as error:
            if error.written is not False:
                said = f"{comment} (it is not known whether this was stored)".strip()
                await self._audit.record(request, action, key, before, wanted, said)
            raise Problem(
                Kind.CHANGE_UNAVAILABLE, str(error), headers={"Retry-After": "2"}
            ) from error
        except DefinitionTooLargeError as error:
            raise Problem(Kind.BODY_TOO_LARGE, str(error)) from error
        except InvalidChangeError as error:
            raise Problem(Kind.INVALID_REQUEST, str(error)) from error
        await self._audit.record(request, action, key, before, state_of(document), comment)
        return document

    def check_version(self, request: Request, document: Document) -> None:
        """Raises a Problem (412) unless If-Match, where it is given, names this version."""
        given = request.headers.get("if-match")
        if given is None or given.strip() == "*":
            return
        if str(document.version) not in _TAG.findall(given):
            raise self.conflict(request, document.key, None, document)

    def conflict(
        self, request: Request, key: str, based_on: Document | None, current: Document | None
    ) -> Problem:
        """`based_on` is the version that the change was made for, where that is known."""
        given = request.headers.get("if-match")
        kind = Kind.CONFLICT if given is None else Kind.PRECONDITION_FAILED
        if current is None:
            return Problem(kind, f"{key} is not there any more; list what there is")
        if based_on is None and given is not None:
            based_on = self._version(key, _TAG.findall(given))
        changes = None if based_on is None else changes_between(based_on, current)
        base = f"based on version {based_on.version}" if based_on else "made as if it were new"
        if based_on is None and given is not None:
            base = f"to be made on {given.strip()[:80]}"
        where = f" ({', '.join(one['place'] for one in (changes or [])[:10])})" if changes else ""
        return Problem(
            kind,
            f"the change of {key} was {base}, and version {current.version} by "
            f"{current.changed_by} is there now{where}; read it and make the change on that",
            changes=changes,
        )

    def _version(self, key: str, tags: list[str]) -> Document | None:
        for document in self.log.history(key):
            if str(document.version) in tags:
                return document
        return None


def content_of(document: Document) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(document.text)
    return content


def state_of(document: Document) -> dict[str, Any]:
    return {"version": document.version, "status": document.status, **content_of(document)}


def changes_between(before: Document, after: Document) -> list[dict[str, Any]]:
    """Field by field, without the version itself."""
    found = differences(
        {"status": before.status, **content_of(before)},
        {"status": after.status, **content_of(after)},
    )
    return [change._asdict() for change in found]


@contextmanager
def answered() -> Iterator[None]:
    """What the pure decisions raise, as problems."""
    try:
        yield
    except DefinitionError as error:
        raise Problem(
            Kind.INVALID_REQUEST,
            "; ".join(map(str, error.wrong[:5])),
            errors=[wrong._asdict() for wrong in error.wrong],
        ) from error
    except ChangeRefusedError as error:
        raise Problem(Kind.CONFLICT, str(error)) from error
    except NoVariationError as error:
        raise Problem(Kind.NOT_FOUND, str(error)) from error
