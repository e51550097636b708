"""The slow way: record by record, which tells the good ones from the bad ones and why."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, cast

import polars as pl
from fastavro import schemaless_reader
from fastavro.read import SchemaResolutionError

from streams.avro_shapes import Kind, Shape
from streams.decoded import DeadRecord, dead, schema_id_of
from streams.reasons import BadEventReason
from streams.record_batches import Headers, Record
from streams.writers import BadSchemaError, Reader, Writers

_PREFIX_BYTES = 5
_SMALLEST = {Kind.INT: -(1 << 31), Kind.LONG: -(1 << 63)}


class BadRecordError(Exception):
    def __init__(self, reason: BadEventReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class SingleRecords:
    def __init__(self, reader: Reader, writers: Writers) -> None:
        self._reader = reader
        self._writers = writers
        self._whole = [shape for shape in reader.shapes if _has_whole_numbers(shape)]

    def decode(
        self, records: Iterable[Record]
    ) -> tuple[pl.DataFrame, list[DeadRecord], dict[int, Headers]]:
        """The good ones as columns, the bad ones, and the headers of the good ones that have any.
        Raises RegistryUnavailableError."""
        events, offsets, timestamps = [], [], []
        died: list[DeadRecord] = []
        headers: dict[int, Headers] = {}
        for record in records:
            try:
                event = self._event(record.value)
            except BadSchemaError as bad:
                died.append(dead(record, bad.reason, str(bad)))
            except BadRecordError as bad:
                died.append(dead(record, bad.reason, str(bad)))
            else:
                events.append(event)
                offsets.append(record.offset)
                timestamps.append(record.timestamp_ms)
                if record.headers:
                    headers[record.offset] = record.headers
        return self._reader.frame(events, offsets, timestamps), died, headers

    def _event(self, value: bytes | None) -> dict[str, Any]:
        if value is None:
            raise BadRecordError(BadEventReason.EMPTY, "there is no value")
        if value and value[0] != 0:
            raise BadRecordError(
                BadEventReason.BAD_MAGIC, f"the first byte is {value[0]}, and should be 0"
            )
        schema_id = schema_id_of(value)
        if schema_id is None:
            raise BadRecordError(
                BadEventReason.TRUNCATED, f"{len(value)} bytes are too few for an event"
            )
        writer = self._writers.find(schema_id)
        body = io.BytesIO(value[_PREFIX_BYTES:])
        try:
            event = schemaless_reader(body, writer.parsed, writer.resolved)
        except (EOFError, IndexError) as error:
            # fastavro also says IndexError for a branch that a union does not have.
            if not body.read():
                # In our words: its own may name a place in memory, which is never the same.
                why = f"the bytes end before a record of schema {schema_id} does"
                raise BadRecordError(BadEventReason.TRUNCATED, why) from error
            why = _not_a_record(schema_id, error)
            raise BadRecordError(BadEventReason.UNDECODABLE, why) from error
        except (
            SchemaResolutionError,
            ValueError,
            TypeError,
            LookupError,
            ArithmeticError,
        ) as error:
            raise BadRecordError(
                BadEventReason.UNDECODABLE, _not_a_record(schema_id, error)
            ) from error
        if rest := len(body.read()):
            raise BadRecordError(
                BadEventReason.UNDECODABLE, f"{rest} bytes are left over after schema {schema_id}"
            )
        event = cast(dict[str, Any], event)
        for shape in self._whole:
            if place := _too_wide(shape, event[shape.name]):
                raise BadRecordError(
                    BadEventReason.UNDECODABLE, f"{place} does not fit the bits of its type"
                )
        return event


def _not_a_record(schema_id: int, error: Exception) -> str:
    return f"not a record of schema {schema_id}: {str(error) or type(error).__name__}"


def _has_whole_numbers(shape: Shape) -> bool:
    return shape.kind in _SMALLEST or any(item.kind in _SMALLEST for item in shape.items)


def _too_wide(shape: Shape, value: Any) -> str | None:
    """The place of a number that has more bits than its type; nobody else looks at that."""
    if value is None:
        return None
    if shape.kind in _SMALLEST:
        least = _SMALLEST[shape.kind]
        return None if least <= value <= -1 - least else shape.name
    for position, element in enumerate(value):
        for item in shape.items:
            part = element[item.name] if item.name else element
            if item.kind in _SMALLEST and (place := _too_wide(item, part)) is not None:
                return f"{shape.name}[{position}].{place}"
    return None
