"""From what a stranger sent to an event that means something, or to the reason why not. Pure."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from anabranch.events import Exposure, Invite, Outcome, TurnMetric
from anabranch.fields import Event, milliseconds
from service.bodies import json_type
from service.problems import shortened

# Of the generated events, those that a service may send; the others are written by the system.
ACCEPTED: Mapping[str, type[Event]] = {
    event.TYPE: event for event in (Exposure, TurnMetric, Invite, Outcome)
}


class Reason(StrEnum):
    """Why an event was refused, as a label of a metric."""

    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_FIELD = "unknown_field"
    MISSING_FIELD = "missing_field"
    INVALID_VALUE = "invalid_value"


class RefusedError(Exception):
    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class _Shape:
    """The fields of a generated class, and which of them hold records of their own."""

    def __init__(self, record: type[Any]) -> None:
        self.record = record
        fields = dataclasses.fields(record)
        self.names = frozenset(field.name for field in fields)
        self.required = frozenset(
            field.name
            for field in fields
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        self.nested = {
            name: _Shape(inner)
            for name, hint in typing.get_type_hints(record).items()
            if name in self.names and (inner := _record_in(hint)) is not None
        }

    def read(self, given: Mapping[str, Any], place: str = "") -> Any:
        if not given.keys() <= self.names:
            raise RefusedError(Reason.UNKNOWN_FIELD, self._explain_unknown(given, place))
        if not given.keys() >= self.required:
            missing = ", ".join(sorted(f"{place}{name}" for name in self.required - given.keys()))
            raise RefusedError(Reason.MISSING_FIELD, f"{missing} must be given")
        values = dict(given)
        for name, shape in self.nested.items():
            if isinstance(values.get(name), list):
                values[name] = tuple(
                    shape.read_item(item, f"{place}{name}[{index}]")
                    for index, item in enumerate(values[name])
                )
        return self.record(**values)

    def read_item(self, given: Any, place: str) -> Any:
        if not isinstance(given, dict):
            raise RefusedError(
                Reason.INVALID_VALUE, f"{place} is {json_type(given)}; it must be an object"
            )
        return self.read(given, f"{place}.")

    def _explain_unknown(self, given: Mapping[str, Any], place: str) -> str:
        unknown = min(given.keys() - self.names)
        near = difflib.get_close_matches(unknown, self.names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(self.names))}"
        name = f"{place}{shortened(ascii(unknown)[1:-1])}"
        return f"{name} is not a field of {self.record.__name__}; {hint}"


def _record_in(hint: Any) -> type[Any] | None:
    for argument in typing.get_args(hint):
        if isinstance(argument, type) and dataclasses.is_dataclass(argument):
            return argument
        if (found := _record_in(argument)) is not None:
            return found
    return None


_SHAPES = {name: _Shape(event) for name, event in ACCEPTED.items()}


def type_label(given: Any) -> str:
    """The event's type as a label of a metric: never a text of the caller's own."""
    kind = given.get("type") if isinstance(given, dict) else None
    return kind if isinstance(kind, str) and kind in ACCEPTED else "unknown"


def read_event(given: Any, now_ms: int) -> Event:
    """Takes one item of `events`; raises RefusedError with a sentence for whoever sent it."""
    if not isinstance(given, dict):
        raise RefusedError(
            Reason.NOT_AN_OBJECT, f"an event must be an object, not {json_type(given)}"
        )
    kind = given.get("type")
    shape = _SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        raise RefusedError(Reason.UNKNOWN_TYPE, _explain_type(given))
    values = {name: value for name, value in given.items() if name != "type"}
    if isinstance(values.get("ts"), str):
        values["ts"] = _moment(values["ts"])
    event: Event = shape.read(values)
    problem = event.problem(now_ms)
    if problem is not None:
        raise RefusedError(Reason.INVALID_VALUE, problem)
    return event


def _explain_type(given: Mapping[str, Any]) -> str:
    known = ", ".join(ACCEPTED)
    if "type" not in given:
        return f"type must be given: one of {known}"
    kind = given["type"]
    if not isinstance(kind, str):
        return f"type is {json_type(kind)}; it must be one of {known}"
    near = difflib.get_close_matches(kind, ACCEPTED, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"type is {shortened(ascii(kind))}; it must be one of {known}{hint}"


def _moment(given: str) -> int:
    try:
        return milliseconds(datetime.fromisoformat(given))
    except (ValueError, OverflowError) as error:
        raise RefusedError(
            Reason.INVALID_VALUE,
            f"ts is {shortened(ascii(given))}; it must be a time with its zone, such as "
            "2026-01-31T12:00:00Z, or milliseconds since 1970",
        ) from error
