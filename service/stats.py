"""`GET /v1/stats` and `GET /v1/freshness`: what came in, what became of it, how fresh it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from analysis.freshness import Freshness, Progress, freshness
from service.access import Access, Permission, needs
from service.ingestion import INGESTED, Ingestion, PartitionStats, Seen, partitions_of, watermark_of
from service.problems import problem_answers
from streams.kafka_log import TopicPartition


class TopicStats(BaseModel):
    topic: str
    stored: int = Field(description="Events in the raw table.")
    dead: int = Field(description="Records that became dead letters.")
    skipped: int = Field(description="Replays that were stored already, and left out.")
    lost: int = Field(description="Offsets that Kafka deleted before they were applied.")
    batches: int = Field(description="Ranges of offsets applied.")
    events_per_second: float = Field(description="Stored, over the last minute.")
    late_events: int = Field(description="Events that fell into a window that had closed.")
    dead_letters: dict[str, int] = Field(description="Dead letters by reason.")
    pending: int | None = Field(description="Offsets in Kafka that are not applied yet.")
    partitions: list[PartitionStats]


class Stats(BaseModel):
    at: datetime = Field(description="When this was read.")
    stored: int = Field(description="Events of all topics.")
    dead: int
    lost: int
    pending: int | None
    events_per_second: float
    kafka_problem: str | None = Field(description="Why Kafka did not tell its offsets, if so.")
    topics: list[TopicStats]


class TopicFreshness(BaseModel):
    topic: str
    watermark: datetime | None = Field(
        description="What happened up to here, and came in order, can be seen."
    )
    lag_seconds: float | None = Field(
        description="0 when nothing is pending, else how old the watermark is."
    )
    pending: int | None = Field(description="Offsets in Kafka that are not applied yet.")
    idle_partitions: int = Field(description="Partitions with nothing pending: they hold no mark.")


class FreshnessReport(BaseModel):
    at: datetime
    watermark: datetime | None = Field(
        description="The lowest of the topics that have something pending, else the highest."
    )
    lag_seconds: float | None
    pending: int | None
    applied_at: datetime | None = Field(description="When the last batch of all was formed.")
    late_events: int
    dead_letters: int
    kafka_problem: str | None
    topics: list[TopicFreshness]


def stats_routes(access: Access, ingestion: Ingestion) -> APIRouter:
    router = access.router(tags=["ingestion"])

    @router.get("/v1/stats", response_model=Stats, responses=problem_answers(401, 403, 503))
    @needs(Permission.VIEW)
    async def stats() -> Stats:
        """What came in by topic and partition, and what became of it: the newest figures there are.

        Kafka being away leaves `pending` and `end_offset` null and says why; ClickHouse being away
        is a 503.
        """
        return stats_of(await ingestion.look())

    @router.get(
        "/v1/freshness", response_model=FreshnessReport, responses=problem_answers(401, 403, 503)
    )
    @needs(Permission.VIEW)
    async def fresh() -> FreshnessReport:
        """How far what can be seen is behind what Kafka holds, by topic and over all."""
        return freshness_of(await ingestion.look())

    return router


def stats_of(seen: Seen) -> Stats:
    topics = [_topic_stats(seen, topic) for topic in INGESTED]
    return Stats(
        at=seen.at,
        stored=sum(topic.stored for topic in topics),
        dead=sum(topic.dead for topic in topics),
        lost=sum(topic.lost for topic in topics),
        pending=_sum([topic.pending for topic in topics]),
        events_per_second=sum(topic.events_per_second for topic in topics),
        kafka_problem=seen.kafka_problem,
        topics=topics,
    )


def freshness_of(seen: Seen) -> FreshnessReport:
    of_topics = {topic: freshness(_progress(seen, topic), seen.at) for topic in INGESTED}
    overall = freshness(
        [Progress(fresh.watermark, fresh.pending) for fresh in of_topics.values()], seen.at
    )
    figures = seen.figures
    return FreshnessReport(
        at=seen.at,
        watermark=overall.watermark,
        lag_seconds=overall.lag_seconds,
        pending=overall.pending,
        applied_at=max((p.applied_at for p in figures.partitions), default=None),
        late_events=sum(figures.late.values()),
        dead_letters=sum(p.dead for p in figures.partitions),
        kafka_problem=seen.kafka_problem,
        topics=[_topic_freshness(topic, fresh) for topic, fresh in of_topics.items()],
    )


def _topic_freshness(topic: str, fresh: Freshness) -> TopicFreshness:
    return TopicFreshness(
        topic=topic,
        watermark=fresh.watermark,
        lag_seconds=fresh.lag_seconds,
        pending=fresh.pending,
        idle_partitions=fresh.idle_partitions,
    )


def _topic_stats(seen: Seen, topic: str) -> TopicStats:
    known = [p for p in seen.figures.partitions if p.topic == topic]
    partitions = partitions_of(seen, topic)
    return TopicStats(
        topic=topic,
        stored=sum(p.stored for p in known),
        dead=sum(p.dead for p in known),
        skipped=sum(p.skipped for p in known),
        lost=sum(p.lost for p in known),
        batches=sum(p.batches for p in known),
        events_per_second=round(seen.figures.per_second.get(topic, 0.0), 1),
        late_events=seen.figures.late.get(topic, 0),
        dead_letters=seen.figures.reasons.get(topic, {}),
        pending=_sum([p.pending for p in partitions]),
        partitions=partitions,
    )


def _progress(seen: Seen, topic: str) -> list[Progress]:
    found = []
    for partition in partitions_of(seen, topic):
        there = seen.reached.get(TopicPartition(topic, partition.partition))
        marks = [mark for mark in (watermark_of(partition), there) if mark is not None]
        found.append(Progress(max(marks, default=None), partition.pending))
    return found


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
