"""Where an experiment can go from where it stands, and why not elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from anabranch.plans import Status


class Verb(StrEnum):
    CHANGE = "change"
    START = "start"
    STOP = "stop"
    SCHEDULE = "schedule"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    DELETE = "delete"


class ChangeRefusedError(Exception):
    """The experiment stands where this cannot be done. The text says where, and what to do."""


_UNARCHIVE_FIRST = "is archived; unarchive it first"
_NOTHING_TO_STOP = "is a draft and does not run; there is nothing to stop"
_IN_USE = "and units are being assigned by it; stop it first"

_REFUSED: Mapping[Verb, Mapping[Status, str]] = {
    Verb.CHANGE: {Status.ARCHIVED: _UNARCHIVE_FIRST},
    Verb.START: {
        Status.RUNNING: "is running already",
        Status.ARCHIVED: _UNARCHIVE_FIRST,
    },
    Verb.STOP: {
        Status.DRAFT: _NOTHING_TO_STOP,
        Status.STOPPED: "is stopped already",
        Status.ARCHIVED: "is archived, and so does not run; there is nothing to stop",
    },
    Verb.SCHEDULE: {
        Status.RUNNING: f"is running {_IN_USE}, or set stops_at to end it at a time",
        Status.ARCHIVED: _UNARCHIVE_FIRST,
    },
    Verb.ARCHIVE: {
        Status.RUNNING: f"is running {_IN_USE}",
        Status.SCHEDULED: "is scheduled; stop it first",
        Status.ARCHIVED: "is archived already",
    },
    Verb.UNARCHIVE: {
        status: f"is {status.value} and not archived; there is nothing to undo"
        for status in (Status.DRAFT, Status.SCHEDULED, Status.RUNNING, Status.STOPPED)
    },
    Verb.DELETE: {
        Status.RUNNING: f"is running {_IN_USE}, then archive it, then delete it",
        Status.SCHEDULED: "is scheduled; stop it, then archive it, then delete it",
        Status.STOPPED: "has run, and its results are worth keeping; archive it, then delete it",
    },
}


def check(verb: Verb, key: str, status: Status) -> None:
    """Raises ChangeRefusedError. A deleted experiment is not found before anyone asks this."""
    if (why := _REFUSED[verb].get(status)) is not None:
        raise ChangeRefusedError(f"{key} {why}")
