"""The text of `docs/events.md`: every event, field by field, for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta

from schemas.python_code import Subject
from schemas.record import Field, Kind, Record
from schemas.topics import TopicSpec

INTRODUCTION = """# Events

Written by `make schemas` from `schemas/*.avsc`; change those.

On Kafka an event is Avro in the Confluent wire format: a zero byte, the schema's id in four bytes,
the record. Its key is the text of the field named below. In JSON (`POST /v1/events`) the fields
have the same names; names with values are a plain object there, and an array of `{name, value}`
records in Avro; a time is ISO 8601 with a timezone, or milliseconds since 1970, UTC.

Texts hold no control characters unless it says so. A field marked *optional* may be left out by
who writes an event, and is then empty.
"""


def events_page(subjects: Iterable[Subject]) -> str:
    return INTRODUCTION + "".join(_section(subject) for subject in subjects)


def _section(subject: Subject) -> str:
    topic, record = subject.topic, subject.record
    how = "written by services" if topic.emitted else "written by Anabranch itself"
    if topic.schema == "assignment_request.avsc":
        how = "written by services to Kafka"
    rows = "".join(_row("", field) for field in record.fields)
    nested = {
        field.items.name: field.items
        for field in record.fields
        if field.kind is Kind.RECORDS and field.items is not None
    }
    return (
        f"\n## `{subject.type}`\n\n{record.doc}\n\n"
        f"Topic `{topic.name}`, key `{topic.key}`, kept {_kept(topic)}, {how}. "
        f"Schema: [`schemas/{topic.schema}`](../schemas/{topic.schema})\n\n"
        + _table(rows)
        + "".join(_nested(item) for item in nested.values())
    )


def _nested(record: Record) -> str:
    rows = "".join(_row("", field) for field in record.fields)
    return f"\n`{record.name}`: {record.doc}\n\n" + _table(rows)


def _table(rows: str) -> str:
    return "| field | type | unit | range | meaning |\n|---|---|---|---|---|\n" + rows


def _row(prefix: str, field: Field) -> str:
    cells = (
        f"`{prefix}{field.name}`",
        _type(field),
        field.attributes.get("unit", ""),
        _range(field),
        field.doc + _aside(field),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _type(field: Field) -> str:
    items = field.items
    match field.kind:
        case Kind.RECORDS if items is not None:
            return f"list of `{items.name}`"
        case Kind.TEXTS:
            return "list of texts"
        case Kind.PAIRS if items is not None:
            return f"names to {items.fields[1].kind}s"
    return f"{field.kind} or null" if field.nullable else str(field.kind)


def _range(field: Field) -> str:
    limits = field.attributes
    match field.kind:
        case Kind.TIME:
            return (
                f"at most {limits['maximumAgeDays']} days old and "
                f"{limits['maximumAheadMinutes']} minutes ahead"
            )
        case Kind.INTEGER | Kind.NUMBER:
            return f"{limits['minimum']:,} to {limits['maximum']:,}"
        case Kind.PAIRS if field.items is not None:
            name, value = field.items.fields
            return f"{_count(field)}; name: {_range(name)}; value: {_range(value)}"
        case Kind.RECORDS:
            return _count(field)
        case Kind.TEXTS if field.items is not None:
            return f"{_count(field)}; each: {_range(field.items.fields[0])}"
    if "enum" in limits:
        return ", ".join(f"`{choice}`" for choice in limits["enum"])
    size = f"{limits.get('minLength', 0)} to {limits['maxLength']:,} characters"
    pattern = f", `{limits['pattern']}`" if "pattern" in limits else ""
    return size + pattern + (", line breaks allowed" if limits.get("multiline") else "")


def _count(field: Field) -> str:
    return f"{field.attributes.get('minItems', 0)} to {field.attributes['maxItems']}"


def _aside(field: Field) -> str:
    example = field.attributes.get("example")
    optional = " *optional*" if field.attributes.get("optional") else ""
    return optional + (f" Example: `{json.dumps(example)}`" if example is not None else "")


def _kept(topic: TopicSpec) -> str:
    if topic.compacted:
        return "for good, the newest record of each key"
    return "for good" if topic.retention is None else f"{topic.retention // timedelta(days=1)} days"
