"""What experiments name (metrics, holdouts, groups, parameter sets): all kinds alike."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from fastapi import Request
from pydantic import Field

from anabranch.definition_records import Document
from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Key, Part, as_json
from anabranch.plans import Status
from anabranch.reading import DefinitionError, Wrong, read
from service.access import Permission
from service.definition_changes import DefinitionChanges, answered, content_of
from service.experiment_answers import moment
from service.experiment_states import ChangeRefusedError
from service.json_changes import merged
from service.problems import Kind, Problem, shortened

SYSTEM_FIELDS = ("version", "changed_by", "changed_at", "comment", "built_in")

Check = Callable[[str, Any, DefinitionSet], None]
"""Raises DefinitionError for what a document names and is not there."""
CheckChange = Callable[[str, Any, Any, DefinitionSet], None]
"""Raises ChangeRefusedError for what cannot change while it is in use; no after: its deletion."""


class NamedKind(NamedTuple):
    kind: str
    """In the definition log: `holdout` of `holdout:global`."""
    plural: str
    """Of the answers and of the path, which has - for _."""
    noun: str
    model: type[Part]
    permission: Permission
    check: Check
    check_change: CheckChange
    example: Mapping[str, Any]
    built_in: Mapping[str, Part] = {}

    @property
    def path(self) -> str:
        return f"/v1/{self.plural.replace('_', '-')}"


class NamedAnswer(Part):
    """What every answer has beside the fields of its kind."""

    key: Key = Field(description="What experiments name it by; it never changes.")
    version: int = Field(description="Counts the changes, from 1; the ETag, too. 0: built in.")
    changed_by: str = Field(description="Who made this version; empty where it is built in.")
    changed_at: datetime | None = Field(description="When; null where it is built in.")
    comment: str = Field(description="Why, in the words of who made it.")
    built_in: bool = Field(description="Such cannot be changed.")


def read_named(kind: NamedKind, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The key, and the definition as the log has it. Raises DefinitionError."""
    key = given.get("key")
    wrong: list[Wrong] = []
    try:
        read(_Keyed, {"key": key} if "key" in given else {})
    except DefinitionError as error:
        wrong += error.wrong
    try:
        part = read(kind.model, {name: value for name, value in given.items() if name != "key"})
    except DefinitionError as error:
        raise DefinitionError((*wrong, *error.wrong)) from error
    if wrong:
        raise DefinitionError(tuple(wrong))
    return str(key), as_json(part)


class _Keyed(Part):
    key: Key


class NamedDocuments:
    """Those of one kind."""

    def __init__(self, changes: DefinitionChanges, kind: NamedKind) -> None:
        self.kind = kind
        self._changes = changes

    def keys(self) -> list[str]:
        there = [one.name for one in self._documents()]
        return sorted({*self.kind.built_in, *there})

    def answer(self, key: str) -> dict[str, Any]:
        if key in self.kind.built_in:
            nobody = {"version": 0, "changed_by": "", "changed_at": None, "comment": ""}
            return {"key": key, **as_json(self.kind.built_in[key]), **nobody, "built_in": True}
        return shown(self.find(key))

    def find(self, key: str) -> Document:
        """Raises a Problem (404)."""
        self._changes.current()
        document = self._changes.document(f"{self.kind.kind}:{key}")
        if document is None or document.status == Status.DELETED:
            near = difflib.get_close_matches(key, self.keys(), n=1)
            hint = f"did you mean {near[0]}?" if near else f"GET {self.kind.path} lists them"
            raise Problem(
                Kind.NOT_FOUND, f"no {self.kind.noun} has the key {shortened(key)}; {hint}"
            )
        return document

    async def create(self, request: Request, given: Mapping[str, Any], comment: str) -> Document:
        with answered():
            key, definition = read_named(self.kind, given)
            self._refuse_built_in(key)
            self.kind.check(key, read(self.kind.model, definition), self._changes.current())
        there = self._changes.document(f"{self.kind.kind}:{key}")
        if there is not None and there.status != Status.DELETED:
            raise Problem(
                Kind.CONFLICT,
                f"there is a {self.kind.noun} {key} already, in version {there.version}; change it "
                "by PATCH, or take another key",
            )
        return await self._make(request, "create", key, there, Status.RUNNING, definition, comment)

    async def change(
        self, request: Request, key: str, patch: Mapping[str, Any], comment: str
    ) -> Document:
        with answered():
            self._refuse_built_in(key)
        document = self.find(key)
        self._changes.check_version(request, document)
        now = content_of(document)
        with answered():
            own = self._own_fields(patch, document)
            after = read(self.kind.model, merged(now, own))
            self.kind.check(key, after, self._changes.current())
            self.kind.check_change(key, read(self.kind.model, now), after, self._changes.current())
        if as_json(after) == now:
            return document
        return await self._make(
            request, "change", key, document, Status.RUNNING, as_json(after), comment
        )

    async def delete(self, request: Request, key: str, comment: str) -> None:
        with answered():
            self._refuse_built_in(key)
        document = self.find(key)
        self._changes.check_version(request, document)
        now = content_of(document)
        with answered():
            self.kind.check_change(key, read(self.kind.model, now), None, self._changes.current())
        await self._make(request, "delete", key, document, Status.DELETED, now, comment)

    async def _make(
        self,
        request: Request,
        verb: str,
        key: str,
        there: Document | None,
        status: Status,
        definition: Mapping[str, Any],
        comment: str,
    ) -> Document:
        kind = self.kind.kind
        return await self._changes.make(
            request, f"{kind}.{verb}", f"{kind}:{key}", there, status, definition, comment
        )

    def _documents(self) -> Iterator[Document]:
        self._changes.current()
        for document in self._changes.log.documents.of_kind(self.kind.kind):
            if document.status != Status.DELETED:
                yield document

    def _refuse_built_in(self, key: str) -> None:
        if key in self.kind.built_in:
            raise ChangeRefusedError(
                f"the {self.kind.noun} {key} is built in and cannot be changed: reports of the "
                "past would mean something else; make one under another key"
            )

    def _own_fields(self, patch: Mapping[str, Any], document: Document) -> dict[str, Any]:
        """Somebody may send an answer back with a change in it."""
        current = shown(document)
        wrong = tuple(
            Wrong(name, f"is {shortened(str(patch[name]))}, and cannot be changed to that")
            for name in ("key", *SYSTEM_FIELDS)
            if name in patch and patch[name] != current[name]
        )
        if wrong:
            raise DefinitionError(wrong)
        return {name: value for name, value in patch.items() if name not in ("key", *SYSTEM_FIELDS)}


def shown(document: Document) -> dict[str, Any]:
    return {
        "key": document.name,
        **content_of(document),
        "version": document.version,
        "changed_by": document.changed_by,
        "changed_at": moment(document.changed_at_ms),
        "comment": document.comment,
        "built_in": False,
    }
