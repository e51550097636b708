"""Closes the gap: what workers applied around the swap lies in old tables, in new ones, or in both.

Each of these ranges is applied once more, to the new tables, under the token that its worker gave
it: what a worker has put there, or puts there at this moment, ClickHouse drops.

The ledger is read after the last exchange. A range that is intended later goes into new tables
alone, and one that was confirmed before has its row in `batches`, in the old one or in the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa

from analysis import windows
from sinks.writer import Insert
from streams.forming import Context, Former, placed
from streams.kafka_log import TopicPartition
from streams.ledger import Entry, Range
from streams.rebuild.carry_over import CarryOver
from streams.rebuild.filling import Settled
from streams.rebuild.fresh import RebuildError
from streams.rebuild.live_tables import LiveTables
from streams.rebuild.log_reading import GoneError, LogReading, PartitionReader
from streams.rebuild.replay import Replay
from streams.rebuild.spans import LiveRange, Span, Stretch, one_by_one
from streams.rebuild.swap import Tail

WORKER = "rebuild"
# A cluster shows a row on every node a moment after it was stored.
_ROWS_WITHIN_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 0.2


Feeding = Mapping[tuple[TopicPartition, Range], Sequence[Insert]]


class Gap(NamedTuple):
    """What is applied again, of one epoch of a partition, in order."""

    place: TopicPartition
    epoch: str
    finished: tuple[LiveRange, ...]
    intended: LiveRange | None
    """Perhaps applied by its worker right now."""


class Stores(NamedTuple):
    old: LiveTables
    new: LiveTables


class Closing:
    def __init__(
        self,
        reading: LogReading,
        stores: Stores,
        formers: Mapping[str, Former],
        replay: Replay,
        carries: tuple[CarryOver, CarryOver],
        grace_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`replay` and `carries`, out of old and new tables, have the new tables as their
        target."""
        self._reading = reading
        self._stores = stores
        self._formers = formers
        self._replay = replay
        self._carries = carries
        self._grace_ms = int(grace_seconds * 1000)
        self._sleep = sleep

    async def gaps(self, tails: Mapping[TopicPartition, Tail]) -> list[Gap]:
        """Asked once, after the last exchange."""
        entries = await self._reading.entries()
        lives = [await store.lives() for store in self._stores]
        places = {*lives[0], *lives[1], *entries}
        found = []
        for place in sorted(place for place in places if place.topic in self._formers):
            entry, tail = entries.get(place), tails.get(place)
            epochs = {life.epoch for store in lives for life in store.get(place, ())}
            epochs |= {entry.epoch} if entry is not None else set()
            epochs -= set(tail.older if tail is not None else ())
            found += [await self._gap(place, epoch, tail, entry) for epoch in sorted(epochs)]
        return found

    async def close(self, gap: Gap, feeding: Feeding) -> None:
        """`feeding`: what is known to be in the new tables, for the views on them."""
        span = Span(gap.place, gap.epoch, 0)
        unknown = []
        for stretch in one_by_one(gap.place, gap.finished):
            known = feeding.get((gap.place, stretch.range_))
            if known is None:
                unknown.append((stretch, True))
            else:
                await self._replay.again(stretch, known)
        if gap.intended is not None:
            unknown += [(stretch, False) for stretch in one_by_one(gap.place, (gap.intended,))]
        if not unknown:
            return
        async with self._reading.reader(gap.place) as reader:
            for stretch, finished in unknown:
                await self._apply(reader, span, stretch, finished=finished)

    async def _gap(
        self, place: TopicPartition, epoch: str, tail: Tail | None, entry: Entry | None
    ) -> Gap:
        begin = tail.begin if tail is not None and tail.epoch == epoch else None
        own = entry if entry is not None and entry.epoch == epoch else None
        waited = 0.0
        while True:
            ranges: dict[tuple[int, int], LiveRange] = {}
            for store in self._stores:
                for found in await store.ranges(place, epoch, begin or 0):
                    ranges[found.first, found.last] = found
            finished = tuple(ranges[key] for key in sorted(ranges))
            missing = missing_in(finished, begin, None if own is None else own.offset)
            if missing is None:
                break
            if waited > _ROWS_WITHIN_SECONDS:
                raise RebuildError(
                    f"{place.topic}/{place.partition}: the group has confirmed {missing}, and no "
                    "table `batches` has them"
                )
            await self._sleep(_LOOK_AGAIN_SECONDS)
            waited += _LOOK_AGAIN_SECONDS
        intended = None
        if own is not None and own.intended is not None:
            key = (own.offset, own.intended)
            if key not in ranges:
                now = datetime.now(UTC)
                intended = LiveRange(
                    epoch, *key, records=None, lost=0, applied_at=now, worker=WORKER
                )
        return Gap(place, epoch, finished, intended)

    async def _apply(
        self, reader: PartitionReader, span: Span, stretch: Stretch, *, finished: bool
    ) -> None:
        old, new = self._carries
        try:
            settled = await self._replay.settled(reader, span, stretch)
        except GoneError:
            plan = self._formers[span.place.topic].plan
            if not await old.stretch(plan, span, stretch, marks=False):
                await new.stretch(plan, span, stretch, marks=False)
            return
        if finished:
            restated = await old.restatements(span, stretch)
        else:
            restated = await self._restated(span, stretch, settled)
        # The marks of finished ranges are copied: workers may have asked for them since.
        await self._replay.insert(stretch, settled, restated, marks=not finished)

    async def _restated(self, span: Span, stretch: Stretch, settled: Settled) -> pa.Table:
        """As its worker says it."""
        range_ = stretch.range_
        seen = [
            await store.highest_ms(span.place, span.epoch, range_.first) for store in self._stores
        ]
        now = datetime.now(UTC)
        limit = int(now.timestamp() * 1000)
        highest = max((min(at, limit) for at in seen if at is not None), default=None)
        rows = windows.restatements(settled.decoded.frame, highest, self._grace_ms)
        context = Context(span.place.partition, now, WORKER, highest, self._grace_ms)
        return placed(rows, span.place.topic, range_, context)


def missing_in(ranges: Iterable[LiveRange], begin: int | None, next_: int | None) -> str | None:
    """The first offsets between `begin` and what is applied next that no range has."""
    if begin is None or next_ is None:
        return None
    for found in ranges:
        if found.first > begin:
            return f"{begin} to {found.first - 1}"
        begin = max(begin, found.last + 1)
    return f"{begin} to {next_ - 1}" if begin < next_ else None
