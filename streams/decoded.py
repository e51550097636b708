"""What fetched bytes turn into: columns of good events, and records that can never be any."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from streams.reasons import BadEventReason
from streams.record_batches import Headers, Record, RecordBatch
from streams.replay_headers import origin

OFFSET = "_offset"
TIMESTAMP = "_timestamp"


@dataclass(frozen=True, slots=True)
class DeadRecord:
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    reason: BadEventReason
    detail: str
    schema_id: int | None
    """None where the bytes name no schema."""


def dead(record: Record, reason: BadEventReason, detail: str) -> DeadRecord:
    if (of := origin(record.headers)) is not None:
        detail = f"{detail} (a replay of {of})"
    return DeadRecord(
        record.offset,
        record.timestamp_ms,
        record.key,
        record.value,
        record.headers,
        reason,
        detail,
        schema_id_of(record.value),
    )


def schema_id_of(value: bytes | None) -> int | None:
    if value is None or len(value) < 5 or value[0] != 0:
        return None
    return int.from_bytes(value[1:5], "big")


@dataclass(frozen=True, slots=True)
class Decoded:
    frame: pl.DataFrame
    """The fields of the topic's schema, times as milliseconds, then `_offset` and `_timestamp`, the
    time in milliseconds that Kafka has for the record; in the order of offsets."""
    dead: tuple[DeadRecord, ...]
    """In the order of offsets."""
    headers: Mapping[int, Headers] = field(default_factory=dict)
    """Of the frame's records, by offset; only of those that have any."""
    batches: tuple[RecordBatch, ...] = ()
    """What it was made of."""
    single: int = 0
    """How many records were decoded one by one."""

    def records(self, offsets: Collection[int]) -> list[Record]:
        """The original records, in the order of offsets: for a row that turns out bad later."""
        found = []
        for batch in self.batches:
            if within := {offset for offset in offsets if batch.first <= offset <= batch.last}:
                found += [record for record in batch.records() if record.offset in within]
        return sorted(found)

    def leaving_out(self, offsets: Collection[int]) -> Decoded:
        """The same without these rows, which are not dead either."""
        if not offsets:
            return self
        return replace(
            self,
            frame=self.frame.filter(_none_of(offsets)),
            headers={at: said for at, said in self.headers.items() if at not in offsets},
        )

    def without(self, verdicts: Mapping[int, tuple[BadEventReason, str]]) -> Decoded:
        """The same, with the rows at these offsets among the dead."""
        if not verdicts:
            return self
        died = [dead(record, *verdicts[record.offset]) for record in self.records(verdicts)]
        return Decoded(
            self.frame.filter(_none_of(verdicts)),
            tuple(sorted((*self.dead, *died), key=lambda record: record.offset)),
            {at: headers for at, headers in self.headers.items() if at not in verdicts},
            self.batches,
            self.single,
        )


def _none_of(offsets: Collection[int]) -> pl.Expr:
    return ~pl.col(OFFSET).is_in(pl.Series(OFFSET, sorted(offsets), dtype=pl.Int64).implode())
