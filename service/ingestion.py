"""What came in and what is applied of it: looks at Kafka and ClickHouse that many askers share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, Field

from analysis.freshness import reached
from schemas.topics import TOPICS
from service.problems import Kind, Problem
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.figures import Figures, IngestionFigures, PartitionFigures
from streams.kafka_log import Bounds, TopicPartition
from streams.log_ends import LogEnds, LogsUnknownError

# Whoever asks within this time gets the same answer: a screen full of dashboards costs one query.
KEPT_SECONDS = 0.25
# Kafka that is away costs seconds to ask; so long nobody asks it again.
UNKNOWN_SECONDS = 10.0
# What waits may have come a moment ago or long ago. Where the last event applied does not tell,
# Kafka is asked which offset came so long ago: those before it are applied, or not.
STEPS = tuple(timedelta(seconds=seconds) for seconds in (2, 10, 60, 300, 900))
Answer = TypeVar("Answer")
INGESTED = tuple(topic.name for topic in TOPICS if topic.emitted)


class PartitionStats(BaseModel):
    partition: int
    epoch: str = Field(description="Which life of the partition: a topic made anew has another.")
    applied_offset: int = Field(description="The last offset applied; -1 before the first.")
    end_offset: int | None = Field(description="Kafka's next offset; null while it does not say.")
    pending: int | None = Field(description="Offsets that are not applied yet.")
    last_event_time: datetime | None = Field(description="The highest event time applied.")
    applied_at: datetime | None = Field(description="When the last batch was formed.")


class Seen(NamedTuple):
    at: datetime
    figures: Figures
    bounds: Mapping[TopicPartition, Bounds]
    kafka_problem: str | None
    reached: Mapping[TopicPartition, datetime] = {}
    """Of partitions that wait, where it is known: all that had come by then is applied."""


class Ingestion:
    """One look at ClickHouse and Kafka serves all who ask at the same time."""

    def __init__(
        self,
        figures: IngestionFigures,
        ends: LogEnds,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._figures = figures
        self._ends = ends
        self._clock = clock
        self._looking: asyncio.Task[Seen] | None = None
        self._unknown: tuple[float, str] | None = None

    async def look(self, kept_seconds: float = KEPT_SECONDS) -> Seen:
        """Raises a Problem (503). A look that is no older than `kept_seconds` will do."""
        if self._looking is None or _is_old(self._looking, kept_seconds):
            self._looking = asyncio.create_task(self._look())
        try:
            # Shielded: who asked first may go away, the others still wait for the answer.
            return await asyncio.shield(self._looking)
        except (ClickHouseUnavailable, ClickHouseRefused) as error:
            raise Problem(
                Kind.CLICKHOUSE_UNAVAILABLE, str(error), headers={"Retry-After": "2"}
            ) from error

    async def _look(self) -> Seen:
        # Kafka first: what is applied meanwhile then shows as applied, never as more than there is.
        problem: str | None = None
        bounds: Mapping[TopicPartition, Bounds] = {}
        try:
            bounds = await self._asked(lambda: self._ends.read(INGESTED))
        except LogsUnknownError as error:
            problem = str(error)
        seen = Seen(datetime.now(UTC), await self._figures.read(), bounds, problem)
        waiting = _waiting(seen)
        if not waiting:
            return seen
        times = [seen.at - step for step in STEPS]
        try:
            firsts = await self._asked(lambda: self._ends.firsts(waiting, times))
        except LogsUnknownError as error:
            return seen._replace(kafka_problem=str(error))
        known = {place: reached(waiting[place], of_place) for place, of_place in firsts.items()}
        return seen._replace(reached={place: at for place, at in known.items() if at is not None})

    async def _asked(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        if self._unknown is not None and self._clock() < self._unknown[0]:
            raise LogsUnknownError(self._unknown[1])
        try:
            answer = await question()
        except LogsUnknownError as error:
            self._unknown = self._clock() + UNKNOWN_SECONDS, str(error)
            raise
        self._unknown = None
        return answer

    async def close(self) -> None:
        await self._figures.close()
        await self._ends.close()


def _is_old(looking: asyncio.Task[Seen], kept_seconds: float) -> bool:
    if not looking.done():
        return False
    if looking.cancelled() or looking.exception() is not None:
        return True
    return (datetime.now(UTC) - looking.result().at).total_seconds() > kept_seconds


def _waiting(seen: Seen) -> dict[TopicPartition, int]:
    """The offset that is applied next, where the last event applied is older than a moment."""
    return {
        TopicPartition(topic, partition.partition): partition.end_offset - partition.pending
        for topic in INGESTED
        for partition in partitions_of(seen, topic)
        if partition.pending and partition.end_offset is not None
        if (mark := watermark_of(partition)) is None or mark < seen.at - STEPS[0]
    }


def watermark_of(partition: PartitionStats) -> datetime | None:
    if partition.last_event_time is None or partition.applied_at is None:
        return partition.last_event_time
    return min(partition.last_event_time, partition.applied_at)  # a sender's clock may be ahead


def partitions_of(seen: Seen, topic: str) -> list[PartitionStats]:
    known = {p.partition: p for p in seen.figures.partitions if p.topic == topic}
    there = {place.partition for place in seen.bounds if place.topic == topic}
    return [
        _partition(partition, known.get(partition), seen.bounds.get(place))
        for partition in sorted(known.keys() | there)
        for place in (TopicPartition(topic, partition),)
    ]


def _partition(
    number: int, figures: PartitionFigures | None, bounds: Bounds | None
) -> PartitionStats:
    applied = figures.applied_offset if figures else -1
    pending = None
    if bounds is not None:
        # Below the start of the log nothing waits. A log that ends before what was applied is
        # another topic of the same name: all of it waits.
        next_one = max(applied + 1, bounds.start) if applied < bounds.end else bounds.start
        pending = bounds.end - next_one
    return PartitionStats(
        partition=number,
        epoch=figures.epoch if figures else "",
        applied_offset=applied,
        end_offset=bounds.end if bounds else None,
        pending=pending,
        last_event_time=figures.last_event_time if figures else None,
        applied_at=figures.applied_at if figures else None,
    )
