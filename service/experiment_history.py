"""What the versions of an experiment say of its units: which may be compared, and whether it ran
as long as it was meant to. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile

from anabranch.definition_records import Document
from anabranch.definitions import Definition
from anabranch.plans import Status
from anabranch.reading import DefinitionError, read
from service.definition_changes import content_of

_LIVE = (Status.RUNNING.value, Status.SCHEDULED.value)


def comparable(history: Sequence[Document]) -> tuple[int, int] | None:
    """The versions, from and to, under which units were shared out as they are now; None where
    there never was another way.

    Units that came at another time under other weights must not be put together with them: what
    changes from day to day would look like an effect (Simpson's paradox). `history` ends with the
    current version; of versions before it that are not known, nothing is known to be comparable.
    """
    current = history[-1]
    now = split(current)
    same = takewhile(
        lambda one: split(one) == now and one.status != Status.DELETED.value, reversed(history)
    )
    since = min((one.version for one in same), default=current.version)
    return None if since <= 1 else (since, current.version)


def splits(history: Sequence[Document]) -> Mapping[int, Hashable]:
    """By version, how it shares out new units; equal ones do it alike."""
    return {one.version: split(one) for one in history}


def split(document: Document) -> Hashable:
    """While a phase is opening, only units on which old and new weights agree take part."""
    definition = document.definition
    phases = definition.get("phases") or ()
    is_opening = bool(phases and phases[-1].get("opening"))
    variations = definition.get("variations") or ()
    return is_opening, tuple((one.get("key"), one.get("weight")) for one in variations)


def ran_its_time(history: Sequence[Document], now: datetime) -> bool:
    """Whether the time has come at which it was to stop, and nothing stopped it before.

    What was changed, archived or stopped after that time is behind.
    """
    for place in range(len(history) - 1, -1, -1):
        if history[place].status in _LIVE:
            break
    else:
        return False
    end = now
    if place + 1 < len(history):
        end = datetime.fromtimestamp(history[place + 1].changed_at_ms / 1000, UTC)
    try:
        stops_at = read(Definition, content_of(history[place])).stops_at
    except DefinitionError:  # of another release
        return False
    return stops_at is not None and stops_at <= end
