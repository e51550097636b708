"""An `.avsc` file as Python values: what the generator, the documentation and the rules read.

The Avro attributes are the wire format. Beside them a field may say, in JSON Schema's own words
where there are any:

* `minimum`, `maximum`: the range of a number, both inclusive
* `minLength`, `maxLength`, `pattern`, `enum`: of a text; the pattern covers the whole of it
* `multiline`: the text may hold line breaks and tabs; no text may hold other control characters
* `minItems`, `maxItems`: of an array
* `pairs`: an array of {name, value} records with unique names; a JSON object outside of Avro
* `unit`: what a number counts, for people
* `maximumAgeDays`, `maximumAheadMinutes`: of a time, against the clock of whoever checks it
* `generated`: `id` or `now`; filled in when absent
* `optional`: may be left out; then it is empty, or null where the type allows that
* `example`: for people and for the HTTP documentation

A `default` is Avro's own and means old data that lacks the field; it is not for producers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# What Avro itself gives a meaning to; every other attribute of a field has to be one of ours.
AVRO_ATTRIBUTES = frozenset({"name", "type", "doc", "default", "aliases", "order"})
CONSTRAINTS = frozenset(
    {"minimum", "maximum", "minLength", "maxLength", "pattern", "enum", "multiline", "minItems"}
    | {"maxItems", "pairs", "maximumAgeDays", "maximumAheadMinutes"}
)
OWN_ATTRIBUTES = CONSTRAINTS | {"unit", "generated", "optional", "example"}


class SchemaError(Exception):
    """A schema says something that this house does not understand. The text names the place."""


class Kind(StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    TIME = "time"
    TEXTS = "texts"
    RECORDS = "records"
    PAIRS = "pairs"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    doc: str
    kind: Kind
    nullable: bool
    attributes: dict[str, Any]
    """The constraints and the other attributes that are ours."""
    items: Record | None = None
    """What an array of records or pairs holds."""


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    doc: str
    fields: tuple[Field, ...]


def schema_text(file_name: str) -> str:
    return (HERE / file_name).read_text()


def compact(text: str) -> str:
    """The same schema on one line: two texts of one schema become equal."""
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


def parse(text: str) -> Record:
    return _record(json.loads(text))


def _record(schema: dict[str, Any]) -> Record:
    fields = tuple(_field(schema["name"], field) for field in schema["fields"])
    return Record(schema["name"], schema.get("doc", ""), fields)


def _field(record: str, field: dict[str, Any]) -> Field:
    place = f"{record}.{field['name']}"
    avro_type = field["type"]
    nullable = isinstance(avro_type, list)
    if nullable:
        if len(avro_type) != 2 or avro_type[0] != "null":
            raise SchemaError(f'{place}: a union must be ["null", type], not {avro_type}')
        avro_type = avro_type[1]
    own = {name: value for name, value in field.items() if name not in AVRO_ATTRIBUTES}
    if unknown := sorted(own.keys() - OWN_ATTRIBUTES):
        known = ", ".join(sorted(OWN_ATTRIBUTES))
        raise SchemaError(f"{place}: unknown attribute {unknown[0]!r}; there are {known}")
    kind = _kind(place, avro_type, own)
    items = None
    if kind in {Kind.RECORDS, Kind.PAIRS}:
        items = _record(avro_type["items"])
    elif kind is Kind.TEXTS:
        item = _field(place, {"name": "item", **_as_field(avro_type["items"])})
        items = Record(f"{field['name']}_item", "", (item,))
    return Field(field["name"], field.get("doc", ""), kind, nullable, own, items)


def _kind(place: str, avro_type: Any, own: dict[str, Any]) -> Kind:
    plain = {"string": Kind.TEXT, "int": Kind.INTEGER, "long": Kind.INTEGER, "double": Kind.NUMBER}
    if isinstance(avro_type, str) and avro_type in plain:
        return plain[avro_type]
    if isinstance(avro_type, dict):
        if avro_type.get("logicalType") == "timestamp-millis" and avro_type["type"] == "long":
            return Kind.TIME
        if avro_type["type"] == "array":
            if _as_field(avro_type["items"])["type"] == "string":
                return Kind.TEXTS
            if avro_type["items"].get("type") == "record":
                return Kind.PAIRS if own.get("pairs") else Kind.RECORDS
    raise SchemaError(
        f"{place}: type {json.dumps(avro_type)} is not one of string, int, long, double, "
        "timestamp-millis, an array of strings or of records, or one of these with null"
    )


def _as_field(items: Any) -> dict[str, Any]:
    """The items of an array: a plain type name, or a type with attributes of its own."""
    return {"type": items} if isinstance(items, str) else items
