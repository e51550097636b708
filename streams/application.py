"""Applies ranges that are intended: decode, check, aggregate, insert in order, note the batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

import structlog

from anabranch.registry import RegistryError
from sinks.writer import Insert, SinkRejected, Writer
from streams.dead_letters import DeadLetterTopics
from streams.dead_limit import DeadLimit
from streams.decoded import DeadRecord, Decoded
from streams.forming import Context, Formed
from streams.kafka_log import KafkaLog
from streams.ledger import Range
from streams.metrics import WorkerMetrics
from streams.partition import Partition, committed
from streams.reasons import BadEventReason
from streams.refused_rows import RefusedRows
from streams.replays import Replays, Settled
from streams.settings import WorkerSettings

log = structlog.get_logger("streams.application")

_REGISTRY_RETRY_SECONDS = 1.0

Result = TypeVar("Result")
Allowed = Callable[[], Awaitable[bool]]


class Work(NamedTuple):
    partition: Partition
    range_: Range
    fresh: bool
    """Not intended by an earlier owner."""
    rows: int
    """Records, as far as they are known before they are decoded."""


class Application:
    def __init__(
        self,
        settings: WorkerSettings,
        writer: Writer,
        dead_letter_topics: DeadLetterTopics,
        limit: DeadLimit,
        metrics: WorkerMetrics,
        *,
        worker: str,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.registry_problem: str | None = None
        self._settings = settings
        self._writer = writer
        self._refused = RefusedRows(writer)
        self._replays = Replays(writer)
        self._topics = dead_letter_topics
        self._limit = limit
        self._metrics = metrics
        self._worker = worker
        self._clock = clock
        self._sleep = sleep
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="form")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def apply(
        self, work: Work, kafka: KafkaLog, is_ours: Callable[[Partition], bool]
    ) -> None:
        """Return once all of it is stored; each table in its turn, its row in `batches` last."""
        partition, range_ = work.partition, work.range_
        topic, token = partition.place.topic, range_.token(*partition.place)

        async def allowed() -> bool:
            if not is_ours(partition):
                return False
            if self._clock() - partition.intended_at > self._settings.intent_age_seconds:
                # This process may have stood still: is the intent still ours? FencedError if not.
                begun = self._clock()
                entry = committed(partition.known.entry)
                await kafka.commit_entries({partition.place: entry}, partition.generation)
                partition.intended_at = begun
            return True

        formed = await self._formed(await self._settled(work, allowed), work)
        self._check_limit(topic, formed)
        await self._publish(work, formed.dead)
        try:
            await self._insert(formed.inserts, token, allowed)
        except SinkRejected as rejected:
            if rejected.table != partition.former.plan.table:
                raise
            formed = await self._without_refused(work, rejected, allowed)
        self._done(work, formed)

    async def _insert(self, inserts: Sequence[Insert], token: str, allowed: Allowed) -> None:
        for insert in inserts:
            await self._writer.insert(insert, token, allowed)

    async def _without_refused(
        self, work: Work, rejected: SinkRejected, allowed: Allowed
    ) -> Formed:
        """Find the rows that ClickHouse refuses, and apply the others."""
        partition, range_ = work.partition, work.range_
        token = range_.token(*partition.place)
        settled = await self._settled(work, allowed)
        decoded = await self._refused.isolate(settled.decoded, partition, rejected, allowed)
        refused = tuple(
            letter for letter in decoded.dead if letter.reason is BadEventReason.REFUSED_BY_STORE
        )
        await self._publish(work, refused)
        # Their own token: the dead letters found before them are stored already.
        settled = settled._replace(decoded=decoded)
        letters = partition.former.dead_letters(refused, range_, self._context(settled, work))
        await self._writer.insert(letters, f"{token}:refused", allowed)
        formed = await self._formed(settled, work)
        others = [insert for insert in formed.inserts if insert.table != letters.table]
        await self._insert(others, token, allowed)
        return formed

    async def _settled(self, work: Work, allowed: Allowed) -> Settled:
        decoded = await self._decoded(work)
        return await self._replays.settle(decoded, work.partition.place, work.range_, allowed)

    async def _publish(self, work: Work, dead: Sequence[DeadRecord]) -> None:
        place = work.partition.place
        await self._topics.publish(work.partition.former.plan.spec, place.partition, dead)

    async def _decoded(self, work: Work) -> Decoded:
        partition, range_ = work.partition, work.range_
        batches = partition.intake.of_range(range_)
        readable_to = partition.known.readable_to(range_)
        while True:
            try:
                decoded = await self._in_thread(
                    partition.former.decode, batches, range_, readable_to
                )
            except RegistryError as error:  # an unknown schema is the record's, not the registry's
                if self.registry_problem is None:
                    log.warning(
                        "the schema registry does not answer; trying again", problem=str(error)
                    )
                self.registry_problem = str(error)
                await self._sleep(_REGISTRY_RETRY_SECONDS)
            else:
                self.registry_problem = None
                return decoded

    async def _formed(self, settled: Settled, work: Work) -> Formed:
        with self._metrics.form_seconds.labels(work.partition.place.topic).time():
            return await self._in_thread(
                work.partition.former.form,
                settled.decoded,
                work.range_,
                self._context(settled, work),
            )

    def _context(self, settled: Settled, work: Work) -> Context:
        partition = work.partition
        return Context(
            partition=partition.place.partition,
            applied_at=datetime.now(UTC),
            worker=self._worker,
            highest_before_ms=partition.highest_ms,
            grace_ms=int(self._settings.grace_seconds * 1000),
            lost=partition.known.lost(work.range_),
            replays=settled.replays,
            skipped=settled.skipped,
        )

    async def _in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*arguments))

    def _check_limit(self, topic: str, formed: Formed) -> None:
        example = formed.dead[-1].detail if formed.dead else ""
        count = formed.rows + len(formed.dead) + formed.skipped
        self._limit.count(topic, count, len(formed.dead), example, self._clock())

    def _done(self, work: Work, formed: Formed) -> None:
        partition, range_ = work.partition, work.range_
        topic, metrics = partition.place.topic, self._metrics
        lost = partition.known.lost(range_)
        partition.known.now_inserted(range_)
        if formed.highest_ms is not None:
            now_ms = int(time.time() * 1000)
            highest = max(partition.highest_ms or 0, min(formed.highest_ms, now_ms))
            partition.highest_ms = highest
            metrics.watermark.labels(*map(str, partition.place)).set(highest / 1000)
        metrics.records.labels(topic, "stored").inc(formed.rows)
        metrics.records.labels(topic, "skipped").inc(formed.skipped)
        metrics.batch_rows.labels(topic).observe(formed.rows)
        metrics.late.labels(topic).inc(formed.late)
        if lost:
            metrics.lost.labels(topic).inc(lost)
        for letter in formed.dead:
            metrics.records.labels(topic, "dead").inc()
            metrics.dead.labels(topic, letter.reason).inc()
        for appended in (formed.oldest_append_ms, formed.newest_append_ms):
            if appended is not None:
                metrics.age_seconds.labels(topic).observe(max(0, time.time() - appended / 1000))
