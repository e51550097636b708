"""Rounds of replay, each over what workers applied during the last one, until little is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import timedelta
from itertools import takewhile
from typing import Protocol, TypeVar

from sinks.writer import Insert
from streams.kafka_log import TopicPartition
from streams.ledger import Range
from streams.rebuild.fresh import RebuildError
from streams.rebuild.live_tables import LiveTables
from streams.rebuild.planning import Planned
from streams.rebuild.replay import Replay
from streams.rebuild.spans import (
    LiveRange,
    Stretch,
    bulk,
    following,
    newest,
    one_by_one,
    settled,
    span_of,
)
from streams.rebuild.swap import Tail

# Large stretches take the processor, small ones wait for ClickHouse.
_LARGE_AT_ONCE = 2
SMALL_AT_ONCE = 8
# A round as short as this leaves little for the next one.
_SHORT_ROUND_SECONDS = 2.0
_MOST_ROUNDS = 20
_MOST_FEEDING_BYTES = 256 << 20

Applied = Callable[[Stretch, Sequence[Insert]], None]
Item = TypeVar("Item")


class Progress(Protocol):
    def phase(self, text: str) -> None: ...
    def expect(self, what: str, records: int) -> None:
        """So many more of it than was said before."""

    def advance(self, what: str, records: int) -> None: ...


class Rounds:
    def __init__(
        self,
        replay: Replay,
        live: LiveTables,
        planned: Planned,
        topics: Collection[str],
        progress: Progress,
        guard: timedelta,
    ) -> None:
        """Nobody inserts a range again that is older than the last one by more than `guard`."""
        self._replay = replay
        self._live = live
        self._topics = topics
        self._progress = progress
        self._guard = guard
        self._spans = {place: share.span for place, share in planned.shares.items()}
        self._planned_last = {place: share.last for place, share in planned.shares.items()}
        self.feeding: dict[tuple[TopicPartition, Range], Sequence[Insert]] = {}
        """Of the tail: what the live views have not seen yet. What is not kept is formed again."""
        self._feeding_bytes = 0
        self._next = {place: span.start for place, span in self._spans.items()}
        for place, share in planned.shares.items():
            progress.expect(named(place), share.replayed)

    def tails(self) -> list[Tail]:
        """What is not replayed yet."""
        return [
            Tail(place, span.epoch, self._next[place], span.older)
            for place, span in self._spans.items()
        ]

    async def replay_what_is_settled(self, id_: str) -> None:
        """Until what is left is about as young as the guard."""
        for _ in range(_MOST_ROUNDS):
            begun = time.monotonic()
            await self._take_in_new_partitions()
            await few_at_a_time(
                lambda place: self._settled_of(place, id_), self._spans, _LARGE_AT_ONCE
            )
            took = time.monotonic() - begun
            if took < max(_SHORT_ROUND_SECONDS, self._guard.total_seconds()):
                return

    async def replay_the_rest(self) -> None:
        """Under the tokens of the workers, so that whoever inserts it again changes nothing.

        Tables that views fill get it after the swap: a view's id is part of the tokens behind it.
        """
        last_took = float("inf")
        for _ in range(_MOST_ROUNDS):
            begun = time.monotonic()
            await few_at_a_time(self._rest_of, self._spans, SMALL_AT_ONCE)
            took = time.monotonic() - begun
            if took < _SHORT_ROUND_SECONDS or took > 0.8 * last_took:
                return
            last_took = took

    async def refuse_new_epochs(self) -> None:
        lives = await self._live.lives()
        for place, span in self._spans.items():
            known = {span.epoch, *span.older}
            strange = [life.epoch for life in lives.get(place, ()) if life.epoch not in known]
            if strange:
                raise RebuildError(
                    f"{named(place)} was begun anew (epoch {strange[0]}) while the rebuild ran: "
                    "the topic was made anew, or its offset set with a tool. The live tables are "
                    "untouched; run it again with --restart"
                )

    async def _settled_of(self, place: TopicPartition, id_: str) -> None:
        ranges = await self._ranges(place)
        stretches = bulk(place, ranges[: settled(ranges, self._guard)], id_)
        await self._apply(place, stretches, self._told)

    async def _rest_of(self, place: TopicPartition) -> None:
        await self._apply(place, one_by_one(place, await self._ranges(place)), self._keep)

    async def _apply(
        self, place: TopicPartition, stretches: Sequence[Stretch], applied: Applied
    ) -> None:
        planned = self._planned_last.get(place, -1)
        found = [found for stretch in stretches for found in stretch.ranges]
        self._progress.expect(named(place), sum(r.size for r in found if r.first > planned))
        await self._replay.partition(self._spans[place], stretches, applied)
        if stretches:
            self._next[place] = stretches[-1].range_.last + 1

    def _told(self, stretch: Stretch, _: Sequence[Insert]) -> None:
        self._progress.advance(named(stretch.place), stretch.size)

    def _keep(self, stretch: Stretch, inserts: Sequence[Insert]) -> None:
        self._told(stretch, inserts)
        self._feeding_bytes += sum(len(insert.data) for insert in inserts)
        if inserts and self._feeding_bytes < _MOST_FEEDING_BYTES:
            self.feeding[stretch.place, stretch.range_] = inserts

    async def _ranges(self, place: TopicPartition) -> tuple[LiveRange, ...]:
        begin = self._next[place]
        found = await self._live.ranges(place, self._spans[place].epoch, begin)
        whole, _ = following(found, begin)
        # A gap that the plan did not see may be a row that is on its way to this node.
        planned = self._planned_last.get(place, -1)
        return tuple(takewhile(lambda r: r.records is not None or r.last <= planned, whole))

    async def _take_in_new_partitions(self) -> None:
        for place, lives in (await self._live.lives()).items():
            if place in self._spans or place.topic not in self._topics:
                continue
            epoch = newest(lives, None)
            assert epoch is not None
            start = min(life.first for life in lives if life.epoch == epoch)
            self._spans[place] = span_of(place, lives, epoch, start)
            self._next[place] = start
            if self._spans[place].older:
                raise RebuildError(
                    f"{named(place)} has had several epochs since the rebuild began. The live "
                    "tables are untouched; run it again with --restart"
                )


def named(place: TopicPartition) -> str:
    return f"{place.topic}/{place.partition}"


async def few_at_a_time(
    work: Callable[[Item], Awaitable[None]], items: Iterable[Item], at_once: int
) -> None:
    """The first error ends all of them."""
    places = asyncio.Semaphore(at_once)

    async def one(item: Item) -> None:
        async with places:
            await work(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for item in items:
                tasks.create_task(one(item))
    except ExceptionGroup as errors:
        raise _first(errors) from errors


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
