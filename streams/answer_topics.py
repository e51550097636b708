"""Writes answers and exposures to Kafka, at least once: returns when its replicas have them.

The producer is idempotent and tries for as long as Kafka is away. What it cannot get over, as a
number out of sequence after a refused batch, ends it: a new one sends what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from anabranch.encoding import partition_of
from anabranch.kafka import too_large
from anabranch.settings import KafkaSettings
from schemas.topics import ASSIGNMENTS, EXPOSURES
from streams.answers import Record
from streams.lasting_producer import LastingProducer
from streams.metrics import AssignmentMetrics
from streams.topic_admin import TopicError, admin_client, existing_topics

log = structlog.get_logger("streams.answer_topics")

_BATCH_BYTES = 900_000  # before compression; a topic takes 1 MB
_LARGEST_RECORD_BYTES = 64 << 20
_RETRY_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 30.0


class _Place(NamedTuple):
    topic: str
    partition: int


class AnswerTopics:
    def __init__(
        self,
        kafka: KafkaSettings,
        reply_topics: Collection[str],
        metrics: AssignmentMetrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem: str | None = None
        self._kafka = kafka
        self._reply_topics = frozenset(reply_topics)
        self._metrics = metrics
        self._sleep = sleep
        self._clock = clock
        self._existing: frozenset[str] = frozenset()
        self._looked_at: float | None = None
        self._producer = LastingProducer(
            kafka,
            client_id="anabranch-answers",
            max_batch_size=_BATCH_BYTES,
            max_request_size=_LARGEST_RECORD_BYTES,
        )
        self._looking = asyncio.Lock()
        self._most: dict[str, int] = defaultdict(lambda: _BATCH_BYTES)
        """Bytes in a batch, by topic: less where Kafka found one too large."""

    async def existing(self) -> frozenset[str]:
        """The topics that answers may go to and that Kafka has. Waits while it does not say."""
        async with self._looking:
            while self._looked_at is None or self._clock() - self._looked_at > _LOOK_AGAIN_SECONDS:
                problem = await self._look()
                if problem is None or self._existing:
                    self._looked_at = self._clock()  # after a failure, what was known will do
                    break
                self._say(problem)
                await self._sleep(_RETRY_SECONDS)
            return self._existing

    async def _look(self) -> str | None:
        try:
            async with admin_client(self._kafka) as admin:
                there = (await existing_topics(admin)).keys()
        except (TopicError, OSError) as error:
            return str(error)
        if missing := sorted({ASSIGNMENTS.name, EXPOSURES.name} - there):
            return _missing(*missing)
        found = frozenset({ASSIGNMENTS.name, *(self._reply_topics & there)})
        if found != self._existing and (away := sorted(self._reply_topics - there)):
            log.warning("reply topics of the settings are not in Kafka", topics=away)
        self._existing = found
        return None

    async def store(self, records: Mapping[str, Sequence[Record]]) -> None:
        """Return once Kafka has them, however long that takes. Each partition keeps the order."""
        waiting = {topic: list(of_topic) for topic, of_topic in records.items() if of_topic}
        while waiting:
            try:
                producer = await self._producer.started()
                left = await asyncio.gather(
                    *(self._store(producer, topic, found) for topic, found in waiting.items())
                )
            except (KafkaError, OSError) as error:
                self._failed(error)
                await self._sleep(_RETRY_SECONDS)
                continue
            waiting = {topic: rest for topic, rest in zip(waiting, left, strict=True) if rest}
            if waiting:
                self._producer.replace(producer)
                await self._sleep(_RETRY_SECONDS)
        self._say(None)

    async def _store(
        self, producer: AIOKafkaProducer, topic: str, records: list[Record]
    ) -> list[Record]:
        """What Kafka has not acknowledged."""
        try:
            partitions = len(await producer.partitions_for(topic))
        except UnknownTopicOrPartitionError:
            return self._without_a_topic(topic, records)
        except KafkaError as error:
            self._failed(error)
            return records
        by_partition: dict[int, list[Record]] = defaultdict(list)
        for record in records:
            by_partition[partition_of(record[0], partitions)].append(record)
        left = await asyncio.gather(
            *(
                self._store_in(producer, _Place(topic, partition), found)
                for partition, found in by_partition.items()
            )
        )
        return [record for of_partition in left for record in of_partition]

    async def _store_in(
        self, producer: AIOKafkaProducer, place: _Place, records: list[Record]
    ) -> list[Record]:
        sent: list[tuple[list[Record], Awaitable[object]]] = []
        left: list[Record] = []
        try:
            for batch, packed in _packed(producer, records, self._most[place.topic]):
                future = await producer.send_batch(batch, place.topic, partition=place.partition)
                sent.append((packed, future))
        except KafkaError as error:
            self._failed(error)
            left = records[sum(len(packed) for packed, _ in sent) :]
        outcomes = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        unsent: list[Record] = []
        for (packed, _), outcome in zip(sent, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                unsent += self._after(outcome, place, packed)
        return unsent + left

    def _after(
        self, error: BaseException, place: _Place, records: list[Record]
    ) -> Sequence[Record]:
        if not isinstance(error, (KafkaError, OSError)):
            raise error
        self._failed(error)
        if not too_large(error):
            return records
        if len(records) == 1:
            # A topic of somebody's own, that takes less than ours: nobody can send this one.
            self._metrics.refused.labels(place.topic).inc()
            log.error("Kafka refuses an answer for its size", topic=place.topic)
            return ()
        size = sum(len(value) for _, value in records)
        self._most[place.topic] = min(self._most[place.topic], size // 2)
        return records

    def _without_a_topic(self, topic: str, records: list[Record]) -> list[Record]:
        if topic in {ASSIGNMENTS.name, EXPOSURES.name}:
            self._say(_missing(topic))
            return records
        # It was there when its requests were read.
        self._metrics.refused.labels(topic).inc(len(records))
        log.error("a reply topic is gone; its answers are dropped", topic=topic, count=len(records))
        self._looked_at = None
        return []

    async def close(self) -> None:
        """Whatever is under way is answered again."""
        await self._producer.close()

    def _failed(self, error: BaseException) -> None:
        self._metrics.failures.inc()
        self._say(f"answers cannot be written: {error!r}")

    def _say(self, problem: str | None) -> None:
        if problem is not None and self.problem is None:
            log.warning("answers wait", problem=problem)
        self.problem = problem


def _packed(
    producer: AIOKafkaProducer, records: Sequence[Record], most: int
) -> Iterator[tuple[Any, list[Record]]]:
    """Batches in order, each with what is in it."""
    batch, packed, size = producer.create_batch(), cast(list[Record], []), 0
    for key, value in records:
        size += len(key) + len(value)
        full = bool(packed) and size > most
        if full or batch.append(timestamp=None, key=key, value=value) is None:
            batch.close()
            yield batch, packed
            batch, packed, size = producer.create_batch(), [], len(key) + len(value)
            batch.append(timestamp=None, key=key, value=value)
        packed.append((key, value))
    if packed:
        batch.close()
        yield batch, packed


def _missing(*topics: str) -> str:
    return f"Kafka has no {', '.join(topics)}; `anabranch topics --create` makes it"
