"""Who wrote the events of a topic: each schema id that turns up, and how to read its records."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from fastavro import parse_schema
from fastavro.schema import SchemaParseException

from anabranch.encoding import without_logical_types
from anabranch.registry import UnknownSchemaError
from schemas.compatibility import incompatibilities
from schemas.record import SchemaError, compact
from streams.avro_shapes import Kind, NotPlainSchemaError, Shape, dtype, shapes_of
from streams.decoded import OFFSET, TIMESTAMP
from streams.framed_blocks import Block, FramedBlocks
from streams.reasons import BadEventReason


class BadSchemaError(Exception):
    """No record with this id can be read; the text says why."""

    def __init__(self, reason: BadEventReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Reader:
    """The current schema of a topic: what every event becomes."""

    def __init__(self, schema_text: str) -> None:
        self.text = schema_text
        self.shapes = shapes_of(json.loads(schema_text))
        self.dtypes = {shape.name: dtype(shape) for shape in self.shapes}
        self.parsed = parsed(schema_text)
        self._schema = pl.Schema({**self.dtypes, OFFSET: pl.Int64(), TIMESTAMP: pl.Int64()})
        self._empty = pl.DataFrame(schema=self._schema)
        self._arrow = self._empty.to_arrow().schema
        record = json.loads(schema_text)
        self.names = {_full(record, record["name"])}
        self.names |= {_full(record, alias) for alias in record.get("aliases", ())}

    def frame(
        self, events: Sequence[dict[str, Any]], offsets: Sequence[int], timestamps: Sequence[int]
    ) -> pl.DataFrame:
        if not events:
            return self._empty
        columns = {
            **{name: [event[name] for event in events] for name in self.dtypes},
            OFFSET: offsets,
            TIMESTAMP: timestamps,
        }
        # Arrow makes columns of nested Python values many times quicker than polars does.
        return pl.DataFrame(pa.table(columns, schema=self._arrow)).cast(self._schema)


class Writer:
    """One schema id."""

    def __init__(self, schema_id: int, schema_text: str, reader: Reader) -> None:
        self.parsed = parsed(schema_text)
        self.resolved = None if compact(schema_text) == compact(reader.text) else reader.parsed
        """The schema to read as, where it is another; looking for differences takes time."""
        self._blocks: dict[bool, FramedBlocks] = {}
        self._columns: list[pl.Expr] = []
        try:
            shapes = shapes_of(json.loads(schema_text))
            self._columns = [_resolved(shape, shapes) for shape in reader.shapes]
        except NotPlainSchemaError:
            return
        self._blocks = {keyed: FramedBlocks(schema_id, shapes, keyed) for keyed in (True, False)}

    @property
    def is_plain(self) -> bool:
        """Whether its records can be read as blocks; all others are read one by one."""
        return bool(self._blocks)

    def block(self, keyed: bool) -> Block:
        """For batches of plain records, all with a key or all without."""
        return self._blocks[keyed].block()

    def decode(self, block: Block, keyed: bool) -> pl.DataFrame:
        """With the reader's columns. Raises NotPlainError."""
        frame = self._blocks[keyed].decode(block)
        return frame.select(*self._columns, OFFSET, TIMESTAMP)


class Writers:
    """Finds them by id, and keeps what it found: an id means the same for good."""

    def __init__(self, reader: Reader, schema_of: Callable[[int], str]) -> None:
        self._reader = reader
        self._schema_of = schema_of
        self._known: dict[int, Writer | BadSchemaError] = {}

    def find(self, schema_id: int) -> Writer:
        """Raises BadSchemaError, or RegistryUnavailableError: then nothing is known of the id."""
        found = self._known.get(schema_id)
        if found is None:
            try:
                text = self._schema_of(schema_id)
            except UnknownSchemaError as error:
                # Not kept: somebody may register it.
                reason = BadEventReason.UNKNOWN_SCHEMA
                raise BadSchemaError(reason, f"schema {schema_id} is not known: {error}") from error
            found = self._known[schema_id] = self._judged(schema_id, text)
        if isinstance(found, BadSchemaError):
            # A new one: raising the same again would tie every traceback to it.
            raise BadSchemaError(found.reason, str(found))
        return found

    def _judged(self, schema_id: int, text: str) -> Writer | BadSchemaError:
        def wrong(why: str) -> BadSchemaError:
            return BadSchemaError(BadEventReason.WRONG_SCHEMA, f"schema {schema_id} {why}")

        try:
            schema = json.loads(text)
            if not isinstance(schema, dict) or schema.get("type") != "record":
                return wrong("is not of a record")
            name = _full(schema, schema["name"])
            if name not in self._reader.names:
                return wrong(f"is of {name}, not of {' or '.join(sorted(self._reader.names))}")
            if breaches := incompatibilities(self._reader.text, text):
                return wrong(f"cannot be read as this topic's: {breaches[0]}")
            _least_bytes(schema, {})
            return Writer(schema_id, text, self._reader)
        except (SchemaError, SchemaParseException, ValueError, LookupError, TypeError) as error:
            return wrong(f"cannot be used: {error}")


def parsed(schema_text: str) -> Any:
    """Without logical types: times stay milliseconds."""
    return parse_schema(without_logical_types(json.loads(schema_text)))


def _least_bytes(avro_type: Any, named: dict[str, int]) -> int:
    """What a value takes at least. Raises SchemaError for an array of items that may take nothing:
    a handful of bytes could say that there are more of them than anybody can count."""
    if isinstance(avro_type, str):
        return 0 if avro_type == "null" else named.get(avro_type.rsplit(".", 1)[-1], 1)
    if isinstance(avro_type, list):
        for branch in avro_type:
            _least_bytes(branch, named)
        return 1
    name = str(avro_type.get("name", "")).rsplit(".", 1)[-1]
    match avro_type["type"]:
        case "record":
            named[name] = 1  # inside of itself: nothing takes less that contains itself
            named[name] = sum(_least_bytes(field["type"], named) for field in avro_type["fields"])
            return named[name]
        case "fixed":
            named[name] = int(avro_type["size"])
            return named[name]
        case "array":
            if not _least_bytes(avro_type["items"], named):
                raise SchemaError("it has an array of items that may take no bytes")
            return 1
        case "map":
            _least_bytes(avro_type["values"], named)
            return 1
        case "enum":
            return 1
        case inner:
            return _least_bytes(inner, named)


def _full(schema: dict[str, Any], name: str) -> str:
    space = schema.get("namespace", "")
    return name if "." in name or not space else f"{space}.{name}"


def _resolved(shape: Shape, writer: Sequence[Shape]) -> pl.Expr:
    """The column of a reader's field, out of the columns of a writer."""
    source = _source(shape, writer)
    if source is None:
        return _default(shape)
    if Kind.BYTES in {source.kind, shape.kind} and source.kind is not shape.kind:
        raise NotPlainSchemaError(f"{shape.name} is of bytes, and of text")
    column = pl.col(source.name)
    if shape.of_records and _needs_resolving(shape.items, source.items):
        column = column.list.eval(
            pl.struct(*(_resolved_item(item, source.items) for item in shape.items))
        )
    return column.cast(dtype(shape)).alias(shape.name)


def _resolved_item(item: Shape, writer: Sequence[Shape]) -> pl.Expr:
    source = _source(item, writer)
    if source is None:
        return _default(item)
    return pl.element().struct.field(source.name).cast(dtype(item)).alias(item.name)


def _needs_resolving(reader: Sequence[Shape], writer: Sequence[Shape]) -> bool:
    return [item.name for item in reader] != [item.name for item in writer]


def _source(shape: Shape, writer: Sequence[Shape]) -> Shape | None:
    by_name = {field.name: field for field in writer}
    names = (shape.name, *shape.aliases)
    return next((by_name[name] for name in names if name in by_name), None)


def _default(shape: Shape) -> pl.Expr:
    if shape.kind is Kind.LIST and shape.default:
        raise NotPlainSchemaError(f"{shape.name} has items by default")
    default: Any = [] if shape.kind is Kind.LIST else shape.default
    return pl.lit(default, dtype(shape)).alias(shape.name)
