"""The fast way: Kafka's framing and the event inside of it, read as one Avro block.

Kafka (message format 2) and Avro write whole numbers alike (zigzag varints), and byte strings, too
(their length, then the bytes). So one Avro record describes both, and the records of many batches
are one block: columns, without a Python object for a record.

    length:long attributes:fixed1 timestamp_delta:long offset_delta:long key:bytes value_length:long
    wire:fixed5 <the event's fields> headers:long

A null key has the length -1, which is no byte string: then a long stands alone for it.

What a producer wrote may be anything, so what comes out has to be proven. Nothing takes fewer bytes
than the shortest way to write it. If the shortest way to write every row adds up to the bytes that
there were, each row was read from exactly that many. If then each row's `length` and `value_length`
say the same, the first record ends where Kafka says it ends, hence the second begins where Kafka
says it begins, and so on: the rows are the records, and nothing in a value can pass for another.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from polars.exceptions import PanicException, PolarsError

from streams.avro_shapes import Kind, Shape, block_type
from streams.avro_sizes import Size, TooWideError, number_size, sizes_of, sum_of
from streams.decoded import OFFSET, TIMESTAMP
from streams.record_batches import RecordBatch

_SYNC = b"one block and over"[:16]
_FIXED = (1, 5)


class NotPlainError(Exception):
    """These batches are not what a plain block is. It takes the slow way to say why."""


class Block:
    """Batches, put one after the other as they are decompressed: memory that is used again and
    again costs a fraction of what fresh memory costs."""

    def __init__(self, head: bytes) -> None:
        self.batches: list[RecordBatch] = []
        self.ends: list[int] = []
        """Of each batch's records, from the beginning of the first one's."""
        self._out = io.BytesIO()
        self._out.write(head)
        self._counts_at = len(head)
        self._begin = self._counts_at + self._out.write(_padded_varint(0) * 2)

    def add(self, batch: RecordBatch, records: bytes) -> None:
        self._out.write(records)
        self.batches.append(batch)
        self.ends.append(self._out.tell() - self._begin)

    def read(self) -> pl.DataFrame:
        """Once, after all is added."""
        self._out.write(_SYNC)
        self._out.seek(self._counts_at)
        self._out.write(_padded_varint(sum(batch.count for batch in self.batches)))
        self._out.write(_padded_varint(self.ends[-1]))
        self._out.seek(0)
        try:
            return pl.read_avro(self._out)
        except (PolarsError, OSError, PanicException) as error:
            # A panic (polars reads past the end of a slice) is not even an Exception.
            raise NotPlainError(str(error)) from None

    def records(self) -> pl.Series:
        """The bytes of all of them, as numbers."""
        data = self._out.getvalue()
        size = self.ends[-1]
        buffers = [None, pa.py_buffer(data).slice(self._begin, size)]
        return pl.Series(pa.Array.from_buffers(pa.uint8(), size, buffers))


class FramedBlocks:
    """Records of one writer, all with a key or all without, as columns with the writer's names."""

    def __init__(self, schema_id: int, shapes: Sequence[Shape], keyed: bool) -> None:
        self._wire = b"\0" + schema_id.to_bytes(4, "big")
        self._shapes = shapes
        self._keyed = keyed
        self._key = Shape("key", Kind.BYTES if keyed else Kind.LONG)
        self._names = [f"f{number}" for number in range(len(shapes))]
        self._nullable = [number for number, shape in enumerate(shapes) if shape.nullable]
        # The event's fields have numbers for names: none of them can be called like the framing.
        event = [
            {"name": name, "type": block_type(shape, f"R{name}")}
            for name, shape in zip(self._names, shapes, strict=True)
        ]
        self._head = _container_head(
            [
                {"name": "length", "type": "long"},
                {"name": "attributes", "type": {"type": "fixed", "size": 1, "name": "F1"}},
                {"name": "timestamp_delta", "type": "long"},
                {"name": "offset_delta", "type": "long"},
                {"name": "key", "type": self._key.kind.value},
                {"name": "value_length", "type": "long"},
                {"name": "wire", "type": {"type": "fixed", "size": 5, "name": "F5"}},
                *event,
                {"name": "headers", "type": "long"},
            ]
        )

    def block(self) -> Block:
        return Block(self._head)

    def decode(self, block: Block) -> pl.DataFrame:
        """Of batches of one kind of timestamp, that have records at all, as many as their bytes can
        hold. Raises NotPlainError and nothing else, whatever the bytes are."""
        batches = block.batches
        rows = block.read()
        index = pl.int_range(len(rows), eager=True)
        starts = [0, *accumulate(batch.count for batch in batches)]
        try:
            self._prove(rows, index - _of_batches(batches, starts), block)
        except TooWideError as error:
            raise NotPlainError(str(error)) from None
        if batches[0].log_append:
            timestamps = _of_batches(batches, [batch.max_timestamp_ms for batch in batches])
        else:
            bases = _of_batches(batches, [batch.timestamp_ms for batch in batches])
            timestamps = rows["timestamp_delta"] + bases
        moved = [batch.first - start for batch, start in zip(batches, starts, strict=False)]
        columns = [
            rows[name].alias(shape.name)
            for name, shape in zip(self._names, self._shapes, strict=True)
        ]
        offsets = index + _of_batches(batches, moved)
        return pl.DataFrame([*columns]).with_columns(
            offsets.alias(OFFSET), pl.lit(timestamps, pl.Int64).alias(TIMESTAMP)
        )

    def _prove(self, rows: pl.DataFrame, deltas: pl.Series, block: Block) -> None:
        def require(holds: bool, what: str) -> None:
            if not holds:
                raise NotPlainError(what)

        require(_same(rows["headers"], 0), "there are headers")
        require(_same(rows["wire"], pl.Series([self._wire])), "there are other schemas")
        require(_same(rows["offset_delta"], deltas), "offsets are out of order")
        require(self._keyed or _same(rows["key"], -1), "there are keys")
        length, value_length = rows["length"], rows["value_length"]
        key, *fields = sizes_of(rows, [self._key, *self._shapes], ["key", *self._names])
        event, before_field = sum_of(fields), [sum_of(fields[:number]) for number in self._nullable]
        before_event = (
            sum(_FIXED)
            + number_size(rows["timestamp_delta"])
            + number_size(deltas)
            + key
            + number_size(value_length)
        )
        require(_same(value_length, 5 + event), "values end elsewhere")
        require(_same(length, before_event + event + 1), "records end elsewhere")
        ends = (length + number_size(length)).cum_sum()
        last_rows = [rows - 1 for rows in accumulate(batch.count for batch in block.batches)]
        require(_same(ends.gather(last_rows), pl.Series(block.ends)), "batches end elsewhere")
        for number, before in zip(self._nullable, before_field, strict=True):
            # polars takes every branch but the first for the second. Null is 0, the other one 1,
            # which is 2 in zigzag.
            seen = block.records().gather(ends - length + before_event + before)
            nulls = rows[self._names[number]].is_null()
            require(bool(((seen == 2) | nulls).all()), "a union has no such branch")


def _of_batches(batches: Sequence[RecordBatch], values: Sequence[int]) -> int | pl.Series:
    """A value of each batch, for each of its records; there may be one value too many."""
    if len(batches) == 1:
        return values[0]
    counts = [batch.count for batch in batches]
    return pl.Series(np.repeat(np.array(values[: len(batches)], np.int64), counts))


def _same(values: pl.Series, expected: Size) -> bool:
    return bool((values == expected).all())


def _varint(number: int) -> bytes:
    zigzag, out = number << 1, bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes((*out, zigzag))


def _padded_varint(number: int) -> bytes:
    """Always of five bytes, so that it can be written over."""
    zigzag = number << 1
    return bytes((*(zigzag >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21)), zigzag >> 28))


def _container_head(fields: list[dict[str, Any]]) -> bytes:
    """Of an Avro object container file, up to its first block."""
    schema = json.dumps({"type": "record", "name": "Framed", "fields": fields}).encode()
    pairs = ((b"avro.schema", schema), (b"avro.codec", b"null"))
    texts = b"".join(_varint(len(text)) + text for pair in pairs for text in pair)
    return b"Obj\x01" + _varint(len(pairs)) + texts + b"\0" + _SYNC
