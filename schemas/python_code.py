"""The text of `anabranch/events.py` and `anabranch/event_schemas.py`, from the records."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas.python_types import annotation, default, literal, quoted
from schemas.record import Field, Kind, Record
from schemas.topics import TopicSpec

HEADER = '"""{doc}\n\nWritten by `make schemas` from `schemas/*.avsc`; change those.\n"""\n'

IMPORTS = """
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from anabranch import event_schemas
from anabranch.fields import (
    LINE, LINES, Event, Moment, choice_problem, integer_problem, lines_problem, new_id, now_ms,
    number_problem, pairs_problem, records_problem, text_problem, texts_problem, time_problem,
)

# A misspelt field is refused instead of being lost.
_FORBID_UNKNOWN = ConfigDict(extra="forbid")
"""

DATACLASS = "@dataclass(frozen=True, slots=True, kw_only=True)"
FORBID_UNKNOWN = "    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN"


class Subject(NamedTuple):
    topic: TopicSpec
    record: Record
    schema_text: str

    @property
    def type(self) -> str:
        return self.topic.schema.removesuffix(".avsc")


def schemas_module(subjects: Iterable[Subject]) -> str:
    return "\n".join(
        [
            HEADER.format(doc="The Avro schema of every event, as its producers register it."),
            "# ruff: noqa: E501\n",
            *(f'{s.type.upper()} = r"""{s.schema_text.rstrip()}"""\n' for s in subjects),
        ]
    )


def events_module(subjects: tuple[Subject, ...]) -> str:
    records = [subject.record for subject in subjects]
    nested = _nested(records)
    patterns = _patterns([*nested, *records])
    writer = _Writer(patterns)
    names = ", ".join(record.name for record in records)
    types = ", ".join(f"{s.record.name}.TYPE: {s.record.name}" for s in subjects if s.topic.emitted)
    return "\n".join(
        [
            HEADER.format(doc="The events, as frozen values that know what is wrong with them."),
            IMPORTS,
            *(f"{name} = re.compile({quoted(pattern)})" for pattern, name in patterns.items()),
            *(writer.nested_class(record) for record in nested if _has_class(record, records)),
            *(writer.item_function(record) for record in nested if not _has_class(record, records)),
            *(writer.event_class(subject) for subject in subjects),
            f"RECORD_TYPES: tuple[type[Event], ...] = ({names})",
            '"""Everything that is written to a topic."""',
            f"EVENT_TYPES: dict[str, type[Event]] = {{{types}}}",
            '"""What services emit, by the name it has in `POST /v1/events`."""\n',
        ]
    )


def _nested(records: Iterable[Record]) -> list[Record]:
    """What arrays hold, once each, although each file that uses it has to spell it out."""
    found: dict[str, Record] = {}
    for record in records:
        for field in record.fields:
            if field.items is not None:
                known = found.setdefault(field.items.name, field.items)
                if known != field.items:
                    raise ValueError(f"{record.name}.{field.name}: {known.name} differs elsewhere")
    return list(found.values())


def _has_class(nested: Record, records: Iterable[Record]) -> bool:
    """Pairs are mappings and texts are tuples in Python; they need a check, but no class."""
    return any(
        field.items == nested and field.kind is Kind.RECORDS
        for record in records
        for field in record.fields
    )


def _patterns(records: Iterable[Record]) -> dict[str, str]:
    """A constant for each pattern, named after the first field that has it."""
    names: dict[str, str] = {}
    for record in records:
        for field in record.fields:
            pattern = field.attributes.get("pattern")
            if pattern is not None:
                names.setdefault(pattern, f"_{field.name.upper()}")
    return names


class _Writer:
    """Writes classes and functions; it holds the names of the patterns they share."""

    def __init__(self, patterns: dict[str, str]) -> None:
        self._pattern_names = patterns

    def nested_class(self, record: Record) -> str:
        return "\n".join(
            [
                DATACLASS,
                f"class {record.name}:",
                f'    """{_docstring(record.doc)}"""',
                FORBID_UNKNOWN,
                *_declarations(record),
                "    def problem(self) -> str | None:",
                *self._checks(record),
                "    def avro(self) -> dict[str, Any]:",
                _as_avro(record),
            ]
        )

    def item_function(self, record: Record) -> str:
        """The check of one pair or one text of an array."""
        arguments = ", ".join(f"{field.name}: object" for field in record.fields)
        checks = " or ".join(self._check(field, field.name) for field in record.fields)
        return f"def {_function(record)}({arguments}) -> str | None:\n    return {checks}\n"

    def event_class(self, subject: Subject) -> str:
        record = subject.record
        return "\n".join(
            [
                DATACLASS,
                f"class {record.name}(Event):",
                f'    """{_docstring(record.doc)}"""',
                FORBID_UNKNOWN,
                f'    TYPE: ClassVar[str] = "{subject.type}"',
                f'    TOPIC: ClassVar[str] = "{subject.topic.name}"',
                f'    KEY: ClassVar[str] = "{subject.topic.key}"',
                f"    SCHEMA: ClassVar[str] = event_schemas.{subject.type.upper()}",
                *_declarations(record),
                "    def problem(self, now_ms: int) -> str | None:",
                *self._checks(record),
                "    def avro(self) -> dict[str, Any]:",
                _as_avro(record),
            ]
        )

    def _checks(self, record: Record) -> Iterator[str]:
        checks = (self._check(field, f"self.{field.name}") for field in record.fields)
        yield "        return (" + " or ".join(checks) + ")"

    def _check(self, field: Field, value: str) -> str:
        """An expression that is None when `value` is right, and else says what is wrong."""
        check = self._check_of_a_value(field, value)
        return f"(None if {value} is None else {check})" if field.nullable else check

    def _check_of_a_value(self, field: Field, value: str) -> str:
        limits, subject = field.attributes, f'"{field.name}", {value}'
        counts = f"{limits.get('minItems', 0)}, {limits.get('maxItems')}"
        match field.kind:
            case Kind.TIME:
                days, minutes = limits["maximumAgeDays"], limits["maximumAheadMinutes"]
                return f"time_problem({subject}, now_ms, {days}, {minutes})"
            case Kind.INTEGER:
                low, high = limits["minimum"], limits["maximum"]
                return f"integer_problem({subject}, {literal(low)}, {literal(high)})"
            case Kind.NUMBER:
                low, high = limits["minimum"], limits["maximum"]
                return f"number_problem({subject}, {literal(low)}, {literal(high)})"
            case Kind.RECORDS if field.items is not None:
                return f"records_problem({subject}, {counts}, {field.items.name})"
            case Kind.PAIRS | Kind.TEXTS if field.items is not None:
                return f"{field.kind}_problem({subject}, {counts}, {_function(field.items)})"
        return self._text_check(field, subject)

    def _text_check(self, field: Field, subject: str) -> str:
        limits = field.attributes
        if "enum" in limits:
            return f"choice_problem({subject}, ({', '.join(map(quoted, limits['enum']))}))"
        sizes = f"{limits.get('minLength', 0)}, {limits['maxLength']:_}"
        if limits.get("multiline"):
            return f"lines_problem({subject}, {sizes})"
        pattern = f", {self._pattern_names[limits['pattern']]}" if "pattern" in limits else ""
        return f"text_problem({subject}, {sizes}{pattern})"


def _function(record: Record) -> str:
    return f"_{record.name.lower()}_problem"


def _declarations(record: Record) -> Iterator[str]:
    for field in record.fields:
        yield f"    {field.name}: {annotation(field)}{default(field)}"


def _as_avro(record: Record) -> str:
    items = ", ".join(f'"{field.name}": {_avro_value(field)}' for field in record.fields)
    return f"        return {{{items}}}\n"


def _avro_value(field: Field) -> str:
    value = f"self.{field.name}"
    match field.kind:
        case Kind.RECORDS:
            return f"[item.avro() for item in {value}]"
        case Kind.PAIRS:
            return f'[{{"name": name, "value": value}} for name, value in {value}.items()]'
        case Kind.TEXTS:
            return f"list({value})"
    return value


def _docstring(doc: str) -> str:
    first, _, rest = doc.partition(". ")
    if not rest:
        return _folded(doc)
    return f"{_folded(first)}.\n\n    {_folded(rest)}\n    "


def _folded(text: str) -> str:
    return "\n    ".join(textwrap.wrap(text, 88))
