"""The inserts that apply a stretch of ranges: what a worker would insert, and the ledger's rows by
live range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from sinks.writer import Insert
from streams.arrow_inserts import arrow_insert
from streams.dead_letters import dead_letter_rows
from streams.decoded import OFFSET, DeadRecord, Decoded
from streams.forming import (
    BATCHES,
    DEAD_LETTER_MARKS,
    DEAD_LETTERS,
    RESTATEMENTS,
    Context,
    Former,
    raw_rows,
)
from streams.reasons import BadEventReason
from streams.rebuild.spans import LiveRange, Stretch
from streams.replays import Letter, applied_marks


class Settled(NamedTuple):
    """A stretch as it was read, once it is known which replays of dead letters it keeps."""

    decoded: Decoded
    replays: Mapping[int, Letter]
    revived: Mapping[int, Letter]
    """Left out, too, since the letter itself is read now; by the offset of the replay."""
    left_out: tuple[int, ...]
    """Offsets of all replays that another record stands for."""

    @property
    def records(self) -> int:
        return len(self.decoded.frame) + len(self.decoded.dead) + len(self.left_out)


class _Part(NamedTuple):
    """One live range's share."""

    range_: LiveRange
    frame: pl.DataFrame
    dead: tuple[DeadRecord, ...]
    context: Context
    replays: Mapping[int, Letter]


def inserts(
    former: Former, stretch: Stretch, settled: Settled, restated: pa.Table, *, marks: bool = True
) -> list[Insert]:
    """In the order in which a worker inserts them. `restated` are rows of `restatements`."""
    parts = list(_parts(stretch, settled))
    frame = settled.decoded.frame
    tables = [
        (DEAD_LETTERS, _letters(stretch, parts, refused=False)),
    ]
    if len(frame):
        raw = raw_rows(frame, *stretch.place)
        tables.append((former.plan.table, raw))
        tables += [(table, aggregate(frame)) for table, aggregate in former.plan.aggregates]
    tables.append((RESTATEMENTS, restated))
    if marks:
        tables.append((DEAD_LETTER_MARKS, _marks(stretch, parts)))
    rows = [
        former.batch_row(part.frame, part.dead, part.range_.range_, part.context) for part in parts
    ]
    tables.append((BATCHES, pa.concat_tables(rows)))
    return [arrow_insert(table, some) for table, some in tables if len(some)]


def refused_letters(stretch: Stretch, settled: Settled) -> Insert:
    """The letters of rows that ClickHouse does not take: they have a token of their own, since
    those found before them are stored already."""
    rows = _letters(stretch, list(_parts(stretch, settled)), refused=True)
    return arrow_insert(DEAD_LETTERS, rows)


def _parts(stretch: Stretch, settled: Settled) -> Iterator[_Part]:
    decoded = settled.decoded
    offsets = decoded.frame[OFFSET].to_numpy()
    died = {record.offset for record in decoded.dead}
    for found in stretch.ranges:
        begin, end = np.searchsorted(offsets, [found.first, found.last + 1])
        replays = {
            at: letter
            for at, letter in settled.replays.items()
            if found.first <= at <= found.last and at not in died
        }
        # What brings a revived letter back is its own record: so no later replay does.
        replays |= {
            letter.offset: letter
            for at, letter in settled.revived.items()
            if found.first <= at <= found.last
        }
        context = Context(
            partition=stretch.place.partition,
            applied_at=found.applied_at,
            worker=found.worker,
            highest_before_ms=None,
            grace_ms=0,
            lost=found.lost,
            skipped=sum(found.first <= at <= found.last for at in settled.left_out),
        )
        yield _Part(
            found,
            decoded.frame.slice(int(begin), int(end - begin)),
            tuple(r for r in decoded.dead if found.first <= r.offset <= found.last),
            context,
            replays,
        )


def _letters(stretch: Stretch, parts: Sequence[_Part], *, refused: bool) -> pa.Table:
    rows = []
    for _, _, dead, context, _ in parts:
        some = [
            record
            for record in dead
            if (record.reason is BadEventReason.REFUSED_BY_STORE) is refused
        ]
        if some:
            epoch, applied_at = stretch.range_.epoch, context.applied_at
            rows.append(dead_letter_rows(stretch.place, epoch, some, applied_at, context.worker))
    return pa.concat_tables(rows) if rows else pa.table({})


def _marks(stretch: Stretch, parts: Sequence[_Part]) -> pa.Table:
    epoch = stretch.range_.epoch
    rows = [
        applied_marks(
            stretch.place, part.replays, epoch, part.range_.applied_at, part.range_.worker
        )
        for part in parts
        if part.replays
    ]
    return pa.concat_tables(rows) if rows else pa.table({})
