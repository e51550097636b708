"""What the generated events are made of: ids, times, and the words for what is wrong.

The checks run for every event on somebody's request path. So each begins with the one test that a
good value passes, exact types first, and thinks about subclasses and reasons only after that.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BeforeValidator, Field, WithJsonSchema

_DAY_MS = 86_400_000
_YEAR_10000_MS = 253_402_300_800_000

# Control characters could write to a terminal or cut a string in C; a lone surrogate has no UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNPRINTABLE_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

# The same two for pydantic, whose expressions know no surrogates and whose strings have none.
LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]*$"


class Event:
    """What every generated event has."""

    __slots__ = ()

    TYPE: ClassVar[str]
    """Its name in `POST /v1/events`."""
    TOPIC: ClassVar[str]
    KEY: ClassVar[str]
    """The field whose value is the Kafka key."""
    SCHEMA: ClassVar[str]
    """Avro, as JSON text."""

    def problem(self, now_ms: int) -> str | None:
        """The first thing that is wrong, as a sentence that names the field; None when all is well.

        `now_ms` is the present, in milliseconds since 1970, UTC.
        """
        raise NotImplementedError

    def avro(self) -> dict[str, Any]:
        """For an Avro writer whose schema carries no logical types: times are milliseconds."""
        raise NotImplementedError


def new_id() -> str:
    """128 random bits. From the system, so that forked processes never share them."""
    return os.urandom(16).hex()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970, UTC: what a field of time holds."""
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} carries no timezone; end it with Z or +00:00")
    return round(at.timestamp() * 1000)


def _moment(given: Any) -> Any:
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            raise ValueError(
                "is not a time; give 2026-01-31T12:00:00Z or milliseconds since 1970"
            ) from None
    return milliseconds(given) if isinstance(given, datetime) else given


Moment = Annotated[
    int,
    Field(strict=True, ge=0, lt=_YEAR_10000_MS),
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": 0, "exclusiveMaximum": _YEAR_10000_MS},
            ]
        }
    ),
]
"""A field of time: milliseconds since 1970, UTC; in JSON also an ISO 8601 text with a timezone."""


def shown(value: object) -> str:
    """A value in an error: short, on one line, and without running code of unknown types."""
    if isinstance(value, str):
        return ascii(value) if len(value) <= 60 else f"{value[:60]!a}... ({len(value)} long)"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if value is None or type(value) in {int, float, bool}:
        return repr(value)
    return f"of type {type(value).__name__}"


class Checked(Protocol):
    """A record inside of an event."""

    def problem(self) -> str | None: ...


def text_problem(
    name: str,
    value: object,
    shortest: int,
    longest: int,
    pattern: re.Pattern[str] | None = None,
) -> str | None:
    if (
        type(value) is str
        and shortest <= len(value) <= longest
        # A pattern of ours is plain ASCII without controls (schemas/compatibility.py).
        and (value.isprintable() if pattern is None else pattern.fullmatch(value))
    ):
        return None
    return _explained_text(name, value, shortest, longest, _UNPRINTABLE, pattern)


def lines_problem(name: str, value: object, shortest: int, longest: int) -> str | None:
    """A text that may have line breaks and tabs."""
    return _explained_text(name, value, shortest, longest, _UNPRINTABLE_BUT_LINES, None)


def _explained_text(
    name: str,
    value: object,
    shortest: int,
    longest: int,
    unprintable: re.Pattern[str],
    pattern: re.Pattern[str] | None,
) -> str | None:
    if not isinstance(value, str):
        return f"{name} is {shown(value)}; it must be a text"
    if not shortest <= len(value) <= longest:
        size = f"{shortest} to {longest} characters, not {len(value)}"
        return f"{name} is {shown(value)}; it must have {size}"
    if bad := unprintable.search(value):
        where = f"U+{ord(bad.group()):04X} at position {bad.start()}"
        return f"{name} holds the control character {where}; it must hold none"
    if pattern is not None and not pattern.fullmatch(value):
        return f"{name} is {shown(value)}; it must match {pattern.pattern}"
    return None


def choice_problem(name: str, value: object, choices: tuple[str, ...]) -> str | None:
    if isinstance(value, str) and value in choices:
        return None
    return f"{name} is {shown(value)}; it must be one of {', '.join(choices)}"


def integer_problem(name: str, value: object, low: int, high: int) -> str | None:
    if type(value) is int and low <= value <= high:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return None
    return f"{name} is {shown(value)}; it must be a whole number from {low} to {high}"


def number_problem(name: str, value: object, low: float, high: float) -> str | None:
    # NaN and the infinities fail the comparison.
    if isinstance(value, (float, int)) and not isinstance(value, bool) and low <= value <= high:
        return None
    return f"{name} is {shown(value)}; it must be a finite number from {low:g} to {high:g}"


def time_problem(
    name: str, value: object, now_ms: int, days_back: int, minutes_ahead: int
) -> str | None:
    earliest, latest = now_ms - days_back * _DAY_MS, now_ms + minutes_ahead * 60_000
    if type(value) is int and earliest <= value <= latest:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        return (
            f"{name} is {shown(value)}; it must be milliseconds since 1970, UTC, "
            "as anabranch.milliseconds(datetime) gives them"
        )
    away = f"{abs(value - now_ms) // _DAY_MS} days {'ahead' if value > now_ms else 'ago'}"
    hint = ", so it may be in seconds" if 0 < value < now_ms // 100 else ""
    return (
        f"{name} is {shown(value)}, which is {away}{hint}; it must be milliseconds since 1970, "
        f"UTC, at most {days_back} days old and {minutes_ahead} minutes ahead"
    )


def records_problem(
    name: str, value: object, fewest: int, most: int, record: type[Checked]
) -> str | None:
    if not isinstance(value, (tuple, list)):
        return f"{name} is {shown(value)}; it must be a tuple of {record.__name__}"
    if not fewest <= len(value) <= most:
        return _wrong_count(name, len(value), fewest, most)
    for position, item in enumerate(value):
        if type(item) is not record and not isinstance(item, record):
            return f"{name}[{position}] is {shown(item)}; it must be of type {record.__name__}"
        if wrong := item.problem():
            return f"{name}[{position}].{wrong}"
    return None


def texts_problem(
    name: str, value: object, fewest: int, most: int, item_problem: Callable[[object], str | None]
) -> str | None:
    if not isinstance(value, (tuple, list)):
        return f"{name} is {shown(value)}; it must be a tuple of texts"
    if not fewest <= len(value) <= most:
        return _wrong_count(name, len(value), fewest, most)
    for position, item in enumerate(value):
        if wrong := item_problem(item):
            return f"{name}[{position}]: {wrong}"
    return None


def pairs_problem(
    name: str,
    value: object,
    fewest: int,
    most: int,
    pair_problem: Callable[[object, object], str | None],
) -> str | None:
    if not isinstance(value, Mapping):
        return f"{name} is {shown(value)}; it must be a mapping from names to values"
    if not fewest <= len(value) <= most:
        return _wrong_count(name, len(value), fewest, most)
    for pair_name, pair_value in value.items():
        if wrong := pair_problem(pair_name, pair_value):
            return f"{name}[{shown(pair_name)}].{wrong}"
    return None


def _wrong_count(name: str, count: int, fewest: int, most: int) -> str:
    return f"{name} holds {count} items; it must hold {fewest} to {most}"
