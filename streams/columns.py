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
from streams.framed_blocks import NotPlainError, Plain
from streams.record_batches import Record, RecordBatch, varint
from streams.single_records import SingleRecords
from streams.writers import BadSchemaError, Reader, Writers

__all__ = ["Columns", "DeadRecord", "Decoded"]

# Below this, one by one is as quick as another try with half of the batches.
_FEW_RECORDS = 100


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
        looks: dict[_Look, list[Plain]] = {}
        single: list[Plain] = []
        for batch in used:
            plain = Plain(batch, batch.records_bytes())
            look = _look(plain)
            if look is None or not self._is_plain(look):
                single.append(plain)
            else:
                looks.setdefault(look, []).append(plain)
        frames = [
            _within(frame, first, last)
            for look, plain in looks.items()
            for frame in self._blocks(look, plain, single)
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

    def _is_plain(self, look: _Look) -> bool:
        try:
            return self._writers.find(look.schema_id).is_plain
        except BadSchemaError:
            return False

    def _blocks(
        self, look: _Look, plain: Sequence[Plain], single: list[Plain]
    ) -> Iterator[pl.DataFrame]:
        """All in one go; where that does not work, in halves, until the batches that spoil it are
        found. Those go to `single`."""
        try:
            yield self._writers.find(look.schema_id).decode(plain, look.keyed)
        except NotPlainError:
            if len(plain) == 1 or sum(batch.count for batch, _ in plain) <= _FEW_RECORDS:
                single += plain
                return
            middle = len(plain) // 2
            yield from self._blocks(look, plain[:middle], single)
            yield from self._blocks(look, plain[middle:], single)


def _within(frame: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    """Only the first and the last batch of a range may have records outside of it."""
    offsets = frame[OFFSET]
    if bool(offsets.is_between(first, last).all()):
        return frame
    return frame.filter(offsets.is_between(first, last))


def _records(plain: Sequence[Plain], first: int, last: int) -> Iterator[Record]:
    for batch, body in plain:
        for record in batch.records_of(body):
            if first <= record.offset <= last:
                yield record


def _look(plain: Plain) -> _Look | None:
    """None where even the first record is none of ours."""
    body = plain.body
    try:
        at = 1 + varint(body, 0)[1]
        for _ in range(2):
            _, at = varint(body, at)
        key_length, at = varint(body, at)
        if key_length < -1:
            return None
        _, at = varint(body, at + max(key_length, 0))
    except (IndexError, ValueError):
        return None
    schema_id = schema_id_of(body[at : at + 5])
    return None if schema_id is None else _Look(schema_id, key_length >= 0, plain.batch.log_append)
