"""New weights for an experiment that runs: a new phase, in which nobody who was there moves.

A phase opens in three steps; what each writes to the log, every door has in under a second:

1. The units met so far are written to the log beside the definition, each with its variation.
2. The definition gets the new weights and a phase that is *opening*. Units that were gathered keep
   their variation. For the others old and new weights must agree; where they do not, the unit gets
   the default and no exposure, for as long as this takes.
3. Once ClickHouse holds every exposure that Kafka had when step 2 had reached every door, the units
   of those last seconds are gathered, too, and the phase is open.

Whoever finds a phase that is opening goes on with it, so a service may die at any point; of two
that do it at once, compare-and-set lets one win.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import structlog

from anabranch.definition_records import Document
from anabranch.definitions import Definition, Phase, as_json
from service.definition_errors import DefinitionLogError, VersionConflictError
from service.definition_log import DefinitionLog, Status
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.exposed_units import TooManyUnitsError
from streams.log_ends import LogsUnknownError

logger = structlog.get_logger("service.phases")

MOST_MEMBERS = 200_000
"""Units of one experiment that can be told to every door, GrowthBook's SDKs among them."""

_CHARACTERS_A_DOCUMENT = 150_000
_LOOK_SECONDS = 1.0
# A door has a change in under a second; an SDK that polls has it after five, and its exposures a
# moment later. Until then units may still be met by the old weights.
_SETTLED_AFTER_SECONDS = 8.0
_ACTOR = "anabranch"
_TRIED_AGAIN = (
    *(Problem, DefinitionLogError),
    *(ClickHouseUnavailable, ClickHouseRefused, LogsUnknownError),
)


class Exposed(Protocol):
    async def of(
        self, experiment: str, *, above_version: int, below_version: int, most: int
    ) -> Mapping[str, frozenset[str]]: ...


class Phases:
    def __init__(
        self,
        log: DefinitionLog,
        exposed: Exposed,
        all_applied: Callable[[], Awaitable[Callable[[], Awaitable[bool]]]],
        metrics: ServiceMetrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`all_applied` notes what Kafka holds of exposures now, and gives the question whether all
        of that can be seen in ClickHouse."""
        self._log = log
        self._exposed = exposed
        self._all_applied = all_applied
        self._metrics = metrics
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_opening(), name="phases")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def open(
        self,
        current: Document,
        changed: Definition,
        by: str,
        comment: str = "",
        *,
        status: str | None = None,
    ) -> Document:
        """Write the changed definition, whose weights are new, as a phase that is opening.

        Raises Problem where the units cannot be gathered, VersionConflictError and what else the
        definition log raises.
        """
        before = Definition.model_validate(json.loads(current.text))
        if before.phases and before.phases[-1].opening:
            raise Problem(
                Kind.CONFLICT,
                f"phase {before.phases[-1].number} of {current.key} is still opening; it takes "
                "some seconds: try again then",
                headers={"Retry-After": "5"},
            )
        version = current.version + 1
        members = await self._gathered(current.key, version)
        now = datetime.now(UTC)
        phases = before.phases or (
            Phase(number=1, weights=before.weights, opened_at=_time_of(current)),
        )
        opening = Phase(
            number=phases[-1].number + 1,
            weights=changed.weights,
            opened_at=now,
            members=sum(map(len, members.values())),
            opening=True,
        )
        written = changed.model_copy(update={"phases": (*phases, opening)})
        await self._write_members(current.key, members, by)
        return await self._change(current, written, by, comment, status or current.status)

    async def _change(
        self, current: Document, written: Definition, by: str, comment: str, status: str
    ) -> Document:
        content = as_json(written)
        return await self._log.change(
            current.key, current.version, cast(Status, status), content, by, comment
        )

    async def _gathered(self, key: str, below_version: int) -> Mapping[str, frozenset[str]]:
        try:
            return await self._exposed.of(
                key,
                above_version=_deleted_at(self._log.history(key)),
                below_version=below_version,
                most=MOST_MEMBERS,
            )
        except TooManyUnitsError as error:
            raise Problem(
                Kind.CONFLICT,
                f"{key} has met {error.units:,} units, and new weights can keep at most "
                f"{MOST_MEMBERS:,} where they are; change its coverage instead, or stop it and "
                "start a clone with the new weights",
            ) from error
        except (ClickHouseUnavailable, ClickHouseRefused) as error:
            raise Problem(
                Kind.CLICKHOUSE_UNAVAILABLE,
                f"new weights need to know who was met so far: {error}",
                headers={"Retry-After": "5"},
            ) from error

    async def _write_members(self, key: str, members: Mapping[str, frozenset[str]], by: str) -> int:
        """What is not in the log yet; how many units that were."""
        known, number = self._known(key)
        written = 0
        for variation, units in sorted(members.items()):
            fresh = sorted(units - known)
            for some in _cut(fresh):
                content = {"experiment": key, "variation": variation, "units": some}
                await self._add(f"members:{key}", number, content, by)
                number += 1
                written += len(some)
        return written

    async def _add(self, prefix: str, number: int, content: Mapping[str, Any], by: str) -> None:
        """Under the first number that is free: another service may be at the same work."""
        while True:
            try:
                await self._log.change(f"{prefix}:{number}", 0, "running", content, by, "")
            except VersionConflictError:
                number += 1
            else:
                return

    def _known(self, key: str) -> tuple[frozenset[str], int]:
        """The units that the log holds, and the number of the next document."""
        known: set[str] = set()
        numbers = [-1]
        for document in self._log.documents.of_kind("members"):
            experiment, _, number = document.name.rpartition(":")
            if experiment == key:
                known.update(document.definition["units"] if document.status != "deleted" else ())
                numbers.append(int(number))
        return frozenset(known), max(numbers) + 1

    async def _keep_opening(self) -> None:
        while True:
            await self._sleep(_LOOK_SECONDS)
            await self._forget_the_deleted()
            for document in list(self._log.documents.of_kind("experiment")):
                phases = document.definition.get("phases") or ()
                if not phases or not phases[-1].get("opening") or document.status == "deleted":
                    continue
                try:
                    await self._finish(document)
                except _TRIED_AGAIN as error:
                    self._metrics.phases.labels("retried").inc()
                    detail = error.detail if isinstance(error, Problem) else str(error)
                    logger.warning("a phase is not open yet", key=document.key, problem=detail)
                except Exception:
                    # The top of a task: one document, of a later release perhaps, stops no other.
                    self._metrics.phases.labels("retried").inc()
                    logger.exception("a phase is not open yet", key=document.key)

    async def _forget_the_deleted(self) -> None:
        """The members of an experiment go with it: one made anew under its key has met nobody."""
        for members in list(self._log.documents.of_kind("members")):
            if members.status == "deleted":
                continue
            experiment = self._log.get(members.definition["experiment"])
            if experiment is None or experiment.status != "deleted":
                continue
            content = {**members.definition, "units": []}
            with contextlib.suppress(DefinitionLogError):  # tried again in a moment
                await self._log.change(members.key, members.version, "deleted", content, _ACTOR, "")

    async def _finish(self, document: Document) -> None:
        await self._sleep(_SETTLED_AFTER_SECONDS)
        is_all_there = await self._all_applied()
        while not await is_all_there():
            await self._sleep(_LOOK_SECONDS)
        current = self._log.documents.get(document.key)
        if current is None:
            return
        definition = Definition.model_validate(json.loads(current.text))
        if not definition.phases or not definition.phases[-1].opening:
            return  # somebody else was faster
        opening = definition.phases[-1]
        version = _version_that_opened(self._log.history(document.key), opening.number)
        late = await self._gathered(document.key, version or document.version)
        added = await self._write_members(document.key, late, _ACTOR)
        opened = opening.model_copy(update={"opening": False, "members": opening.members + added})
        written = definition.model_copy(update={"phases": (*definition.phases[:-1], opened)})
        with contextlib.suppress(VersionConflictError):  # looked at again in a moment
            comment = f"phase {opened.number} is open: {opened.members:,} units keep theirs"
            await self._change(current, written, _ACTOR, comment, current.status)
            self._metrics.phases.labels("opened").inc()


def _deleted_at(history: tuple[Document, ...]) -> int:
    """The version at which the key's last life ended; 0 where there was none."""
    return max((one.version for one in history if one.status == "deleted"), default=0)


def _cut(units: list[str]) -> Iterator[list[str]]:
    """Into what fits in a document, whatever the units look like as JSON."""
    some: list[str] = []
    characters = 0
    for unit in units:
        length = len(json.dumps(unit)) + 2
        if characters + length > _CHARACTERS_A_DOCUMENT:
            yield some
            some, characters = [], 0
        some.append(unit)
        characters += length
    if some:
        yield some


def _version_that_opened(history: tuple[Document, ...], number: int) -> int | None:
    for document in history:
        phases = document.definition.get("phases") or ()
        if phases and phases[-1]["number"] == number:
            return document.version
    return None


def _time_of(document: Document) -> datetime:
    return datetime.fromtimestamp(document.changed_at_ms / 1000, UTC)
