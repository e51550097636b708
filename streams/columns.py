"""One topic's record batches as columns: plain batches as blocks, all others record by record.

* BadSchemaError, BadRecordError  a record that can never be used      -> a dead record here
* NotPlainError                   batches that are no block            -> the slow way, here
* CorruptBatchError               bytes that were damaged on the way   -> the worker stops
* RegistryUnavailableError        nothing is decided about any record  -> try again later
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import polars as pl

from schemas.record import schema_text
from schemas.topics import TopicSpec
from streams.decoded import OFFSET, DeadRecord, Decoded, schema_id_of
from streams.framed_blocks import Block, NotPlainError
from streams.record_batches import Record, RecordBatch, varint
from streams.single_records import SingleRecords
from streams.writers import BadSchemaError, Reader, Writer, Writers

__all__ = ["Columns", "DeadRecord", "Decoded"]

# Below this, one by one is as quick as another try with half of the batches.
_FEW_RECORDS = 100
# Without a key or a value, and all else zero.
_SHORTEST_RECORD = 7


class _Look(NamedTuple):
    """What the first record of a batch looks like, and so all of a plain one."""

    schema_id: int
    keyed: bool
    log_append: bool


class Columns:
    def __init__(
        self,
        spec: TopicSpec,
        writer_schema: Callable[[int], str],
        *,
        reader_schema: str | None = None,
    ) -> None:
        """`writer_schema` asks the registry for the schema of an id."""
        self._reader = Reader(schema_text(spec.schema) if reader_schema is None else reader_schema)
        self._writers = Writers(self._reader, writer_schema)
        self._single = SingleRecords(self._reader, self._writers)

    def decode(self, batches: Sequence[RecordBatch], first: int, last: int) -> Decoded:
        """The records at the offsets `first` to `last`, both inclusive.

        The same bytes give the same frame, whatever batches they come with.
        """
        used = tuple(
            batch
            for batch in batches
            if batch.count and batch.first <= last and batch.last >= first
        )
        blocks: dict[_Look, Block] = {}
        single: list[RecordBatch] = []
        for batch in used:
            self._put(batch, blocks, single)
        frames = [
            _within(frame, first, last)
            for look, block in blocks.items()
            for frame in self._frames(look, block, single)
        ]
        rows, dead, headers = self._single.decode(_records(single, first, last))
        parts = [part for part in (*frames, rows) if len(part)]
        frame = pl.concat(parts, rechunk=False) if parts else rows
        if not frame[OFFSET].is_sorted():
            frame = frame.sort(OFFSET)
        return Decoded(
            frame=frame,
            dead=tuple(sorted(dead, key=lambda record: record.offset)),
            headers=headers,
            batches=used,
            single=len(rows) + len(dead),
        )

    def _put(
        self, batch: RecordBatch, blocks: dict[_Look, Block], single: list[RecordBatch]
    ) -> None:
        records = batch.records_bytes()
        look = _look(batch, records)
        writer = None if look is None else self._plain_writer(look.schema_id)
        if look is None or writer is None:
            single.append(batch)
            return
        if look not in blocks:
            blocks[look] = writer.block(look.keyed)
        blocks[look].add(batch, records)

    def _plain_writer(self, schema_id: int) -> Writer | None:
        try:
            writer = self._writers.find(schema_id)
        except BadSchemaError:
            return None
        return writer if writer.is_plain else None

    def _frames(
        self, look: _Look, block: Block, single: list[RecordBatch]
    ) -> Iterator[pl.DataFrame]:
        """All in one go; where that does not work, in halves, until the batches that spoil it are
        found. Those go to `single`."""
        writer = self._writers.find(look.schema_id)
        try:
            yield writer.decode(block, look.keyed)
        except NotPlainError:
            batches = block.batches
            if len(batches) == 1 or sum(batch.count for batch in batches) <= _FEW_RECORDS:
                single += batches
                return
            middle = len(batches) // 2
            for half in (batches[:middle], batches[middle:]):
                again = writer.block(look.keyed)
                for batch in half:
                    again.add(batch, batch.records_bytes())
                yield from self._frames(look, again, single)


def _within(frame: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    """Only the first and the last batch of a range may have records outside of it."""
    offsets = frame[OFFSET]
    if bool(offsets.is_between(first, last).all()):
        return frame
    return frame.filter(offsets.is_between(first, last))


def _records(batches: Sequence[RecordBatch], first: int, last: int) -> Iterator[Record]:
    for batch in batches:
        for record in batch.records():
            if first <= record.offset <= last:
                yield record


def _look(batch: RecordBatch, records: bytes) -> _Look | None:
    """None where even the first record is none of ours."""
    if batch.count * _SHORTEST_RECORD > len(records):
        return None  # memory would be reserved for as many as the head says
    try:
        at = 1 + varint(records, 0)[1]
        for _ in range(2):
            _, at = varint(records, at)
        key_length, at = varint(records, at)
        if key_length < -1:
            return None
        _, at = varint(records, at + max(key_length, 0))
    except (IndexError, ValueError):
        return None
    schema_id = schema_id_of(records[at : at + 5])
    return None if schema_id is None else _Look(schema_id, key_length >= 0, batch.log_append)
