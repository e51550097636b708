"""What a verb makes of an experiment. Pure: the log, the clock and the caller are elsewhere.

Each function takes the experiment as it stands and gives the change to write, or raises:

* ChangeRefusedError    it stands where this cannot be done          -> 409
* DefinitionError       what was given is wrong, place by place      -> 422
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from anabranch.definitions import Definition, as_json
from anabranch.plans import Status
from anabranch.reading import DefinitionError, Wrong, read
from service.experiment_changes import check_change
from service.experiment_states import ChangeRefusedError, Verb, check
from service.json_changes import merged

KEPT_BY_THE_SYSTEM: Mapping[str, str] = {
    "status": "start, stop, schedule and archive change it",
    "version": "every change counts it up",
    "changed_by": "the log keeps it",
    "changed_at": "the log keeps it",
    "comment": "give it as the query parameter `comment`",
    "warnings": "they follow from the rest",
    "phases": "new weights open one",
}
"""What an answer holds beside what people write."""


class Standing(NamedTuple):
    """An experiment as it is now."""

    key: str
    version: int
    status: Status
    """By the clock: what was to start has started, what was to stop has stopped."""
    raw: Mapping[str, Any]
    """The definition as the log has it."""
    definition: Definition | None
    """None where this release cannot read it; then it can be stopped, archived, rolled back."""
    has_run: bool
    shown: Mapping[str, Any] = MappingProxyType({})
    """What an answer holds of it beside the definition."""


class Change(NamedTuple):
    status: Status
    definition: Mapping[str, Any]
    phase: Definition | None = None
    """Where the weights are new and units may have met the old ones: what the phase opens with."""


def created(given: Mapping[str, Any]) -> tuple[Definition, Change]:
    own = _own_fields(given, {"status": Status.DRAFT, "phases": []})
    definition = read(Definition, own)
    return definition, Change(Status.DRAFT, as_json(definition))


def amended(now: Standing, patch: Mapping[str, Any], at: datetime) -> Change:
    """By a merge patch."""
    check(Verb.CHANGE, now.key, now.status)
    return _replaced(now, merged(now.raw, _own_fields(patch, _system_fields(now, patch))), at)


def replaced(now: Standing, given: Mapping[str, Any], at: datetime) -> Change:
    """By a whole definition: what it leaves out takes its default."""
    check(Verb.CHANGE, now.key, now.status)
    return _replaced(now, _own_fields(given, _system_fields(now, given)), at)


def started(now: Standing, at: datetime, *, as_flag: bool = False) -> Change:
    """A draft whose start lies ahead waits for it; what waits already starts now."""
    check(Verb.START, now.key, now.status)
    definition = _readable(now)
    _check_variations(definition, as_flag=as_flag)
    if definition.stops_at is not None and definition.stops_at <= at:
        raise ChangeRefusedError(
            f"{now.key} was to stop at {_shown(definition.stops_at)}, which has passed; set "
            "stops_at to a later time or to null first"
        )
    content = dict(now.raw)
    if definition.starts_at is not None and definition.starts_at > at:
        if now.status is not Status.SCHEDULED:
            return Change(Status.SCHEDULED, content)
        content["starts_at"] = at.isoformat()
    return Change(Status.RUNNING, as_json(read(Definition, content)))


def scheduled(
    now: Standing, given: Mapping[str, Any], at: datetime, *, as_flag: bool = False
) -> Change:
    check(Verb.SCHEDULE, now.key, now.status)
    definition = read(Definition, {**now.raw, **given})
    _check_variations(definition, as_flag=as_flag)
    if definition.starts_at is None or definition.starts_at <= at:
        said = "is missing" if definition.starts_at is None else "has passed"
        problem = f"{said}; give a time ahead, such as 2026-01-31T12:00:00Z, or start it now"
        raise DefinitionError((Wrong("starts_at", problem),))
    if definition.stops_at is not None and definition.stops_at <= at:
        raise DefinitionError((Wrong("stops_at", "has passed; give a later time, or null"),))
    return Change(Status.SCHEDULED, as_json(definition))


def stopped(now: Standing) -> Change:
    check(Verb.STOP, now.key, now.status)
    return Change(Status.STOPPED, now.raw)


def archived(now: Standing) -> Change:
    check(Verb.ARCHIVE, now.key, now.status)
    return Change(Status.ARCHIVED, now.raw)


def unarchived(now: Standing) -> Change:
    check(Verb.UNARCHIVE, now.key, now.status)
    return Change(Status.STOPPED if now.has_run else Status.DRAFT, now.raw)


def deleted(now: Standing) -> Change:
    check(Verb.DELETE, now.key, now.status)
    return Change(Status.DELETED, now.raw)


def cloned(now: Standing, key: Any, name: Any) -> tuple[Definition, Change]:
    """A draft of another key: with no times of its own, and a seed of its own."""
    content = {
        name: value
        for name, value in now.raw.items()
        if name not in ("starts_at", "stops_at", "ramp", "seed", "phases")
    }
    if key == now.key:
        raise DefinitionError((Wrong("key", f"is {key}, as the one it is cloned from"),))
    content["key"] = key
    if name is not None:
        content["name"] = name
    definition = read(Definition, content)
    return definition, Change(Status.DRAFT, as_json(definition))


def rolled_back(now: Standing, earlier: Mapping[str, Any], at: datetime) -> Change:
    """To what an earlier version said. Whether it runs stays as it is; a deleted one is a draft."""
    if now.status is Status.DELETED:
        # Its members went with it, so its phases do.
        return Change(Status.DRAFT, as_json(read(Definition, {**earlier, "phases": []})))
    check(Verb.CHANGE, now.key, now.status)
    return _replaced(now, earlier, at)


def _replaced(now: Standing, content: Mapping[str, Any], at: datetime) -> Change:
    before, phases = now.definition, now.raw.get("phases", [])
    definition = read(Definition, {**content, "phases": []})
    if definition.key != now.key:
        problem = f"is {definition.key}, and cannot change: clone {now.key} under the new key"
        raise DefinitionError((Wrong("key", problem),))
    if before is not None:
        check_change(before, definition, now.status, at)
        if before.weights != definition.weights:
            phase = definition if now.has_run else None
            return Change(now.status, as_json(definition), phase)
    return Change(now.status, as_json(read(Definition, {**content, "phases": phases})))


def _system_fields(now: Standing, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Warnings follow from what is around it, too: whatever comes back is let through."""
    return {**now.shown, "status": now.status, "version": now.version} | {
        "phases": now.raw.get("phases", []),
        "warnings": given.get("warnings"),
    }


def _own_fields(given: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the system's. Somebody may send an answer back with a change in it, so what
    is there as it was is no mistake."""
    wrong = tuple(
        Wrong(name, f"is kept by the system: {why}")
        for name, why in KEPT_BY_THE_SYSTEM.items()
        if name in given and given[name] != current.get(name)
    )
    if wrong:
        raise DefinitionError(wrong)
    return {name: value for name, value in given.items() if name not in KEPT_BY_THE_SYSTEM}


def _readable(now: Standing) -> Definition:
    if now.definition is None:
        return read(Definition, now.raw)
    return now.definition


def _check_variations(definition: Definition, *, as_flag: bool) -> None:
    if len(definition.variations) < 2 and not as_flag:
        raise ChangeRefusedError(
            f"{definition.key} has one variation, and so nothing to compare; add another, or start "
            "it with `flag=true` to give everybody the same parameters"
        )


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
