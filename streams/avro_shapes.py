"""Avro schemas as columns: which polars type a field has, and which schemas decode as blocks.

Only what our own schemas are made of is plain: texts, bytes, whole numbers, doubles, these with
null, and arrays of texts or of records. A writer may use more; its records are decoded one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import polars as pl

# A class in some versions of polars, an instance in others.
DataType: TypeAlias = Any


class Kind(StrEnum):
    TEXT = "string"
    BYTES = "bytes"
    INT = "int"
    LONG = "long"
    DOUBLE = "double"
    LIST = "array"


class NotPlainSchemaError(Exception):
    """The schema has a type that does not decode as a column. The text names the field."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A field, or what an array of texts holds."""

    name: str
    kind: Kind
    nullable: bool = False
    items: tuple[Shape, ...] = ()
    """Of an array: the fields of its records, or one without a name."""
    aliases: tuple[str, ...] = ()
    default: Any = None

    @property
    def of_records(self) -> bool:
        return self.kind is Kind.LIST and bool(self.items[0].name)


def shapes_of(record: dict[str, Any]) -> tuple[Shape, ...]:
    """Raises NotPlainSchemaError."""
    return tuple(_shape(field, inside=False) for field in _fields(record))


def dtype(shape: Shape) -> DataType:
    match shape.kind:
        case Kind.TEXT:
            return pl.String()
        case Kind.BYTES:
            return pl.Binary()
        case Kind.INT:
            return pl.Int32()
        case Kind.LONG:
            return pl.Int64()
        case Kind.DOUBLE:
            return pl.Float64()
    if shape.of_records:
        return pl.List(pl.Struct({item.name: dtype(item) for item in shape.items}))
    return pl.List(dtype(shape.items[0]))


def block_type(shape: Shape, path: str) -> Any:
    """The Avro type to decode it by. A wide number, so that one out of 32 bits is seen instead of
    cut; no default and no reference to another type, which polars does not take."""
    avro_type: Any = shape.kind.value
    if shape.kind is Kind.INT:
        avro_type = "long"
    elif shape.of_records:
        fields = [
            {"name": item.name, "type": block_type(item, f"{path}_{item.name}")}
            for item in shape.items
        ]
        avro_type = {"type": "array", "items": {"type": "record", "name": path, "fields": fields}}
    elif shape.kind is Kind.LIST:
        avro_type = {"type": "array", "items": block_type(shape.items[0], path)}
    return ["null", avro_type] if shape.nullable else avro_type


def _fields(record: dict[str, Any]) -> list[dict[str, Any]]:
    if not record["fields"]:
        raise NotPlainSchemaError(f"{record['name']} has no fields")
    fields: list[dict[str, Any]] = record["fields"]
    return fields


def _shape(field: dict[str, Any], inside: bool) -> Shape:
    name, avro_type = field["name"], field["type"]
    nullable = isinstance(avro_type, list)
    if nullable:
        if inside or len(avro_type) != 2 or avro_type[0] != "null":
            raise NotPlainSchemaError(f"{name} is a union of {avro_type}")
        avro_type = avro_type[1]
    items: tuple[Shape, ...] = ()
    if isinstance(avro_type, dict):
        if avro_type["type"] == "array" and not inside and not nullable:
            items = _items(avro_type["items"])
        avro_type = avro_type["type"]
    if avro_type not in list(Kind) or (avro_type == Kind.LIST and not items):
        raise NotPlainSchemaError(f"{name} is of type {avro_type}")
    aliases = tuple(field.get("aliases", ()))
    return Shape(name, Kind(avro_type), nullable, items, aliases, field.get("default"))


def _items(avro_type: Any) -> tuple[Shape, ...]:
    if isinstance(avro_type, dict) and avro_type["type"] == "record":
        return tuple(_shape(field, inside=True) for field in _fields(avro_type))
    return (_shape({"name": "", "type": avro_type}, inside=True),)
