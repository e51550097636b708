"""Where the logs of Kafka end, for whoever compares that with what is applied."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import datetime

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.errors import KafkaError

from anabranch.settings import KafkaSettings
from streams.connection import client_options
from streams.kafka_log import Bounds, TopicPartition
from streams.topic_admin import TopicError, admin_client, existing_topics

_TIMEOUT_SECONDS = 3.0
_PARTITIONS_KEPT_SECONDS = 10.0


class LogsUnknownError(Exception):
    """Kafka did not say."""


class LogEnds:
    """A consumer without a group, started when it is first asked and again after a failure."""

    def __init__(
        self, settings: KafkaSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._consumer: AIOKafkaConsumer | None = None
        self._places: list[KafkaTopicPartition] = []
        self._places_until = 0.0

    async def read(self, topics: Collection[str]) -> dict[TopicPartition, Bounds]:
        """Of every partition of those topics that exist. Raises LogsUnknownError."""
        async with self._asking() as consumer:
            places = await self._partitions(topics)
            starts, ends = await asyncio.gather(
                consumer.beginning_offsets(places), consumer.end_offsets(places)
            )
        return {TopicPartition(*place): Bounds(starts[place], ends[place]) for place in places}

    async def firsts(
        self, places: Collection[TopicPartition], times: Collection[datetime]
    ) -> dict[TopicPartition, dict[datetime, int]]:
        """The offset of the first record that came at each time or later, by the broker's clock;
        left out where none came since. Raises LogsUnknownError.
        """
        found: dict[TopicPartition, dict[datetime, int]] = {place: {} for place in places}
        async with self._asking() as consumer:
            asked = [
                consumer.offsets_for_times(
                    {KafkaTopicPartition(*place): round(at.timestamp() * 1000) for place in places}
                )
                for at in times
            ]
            for at, answer in zip(times, await asyncio.gather(*asked), strict=True):
                for place, first in answer.items():
                    if first is not None:
                        found[TopicPartition(*place)][at] = first.offset
        return found

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AIOKafkaConsumer]:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                yield await self._started()
        except (KafkaError, TopicError, OSError, TimeoutError) as error:
            await self.close()
            said = str(error) or type(error).__name__
            raise LogsUnknownError(f"{self._settings.bootstrap}: {said}") from error

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                client_id="anabranch-log-ends",
                enable_auto_commit=False,
                **client_options(self._settings),
            )
            try:
                await consumer.start()
            except BaseException:  # cancelled by the time limit, too: no open connection is left
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer

    async def _partitions(self, topics: Collection[str]) -> list[KafkaTopicPartition]:
        """A consumer tells only the partitions of what it is subscribed to."""
        if self._clock() >= self._places_until:
            async with admin_client(self._settings) as admin:
                existing = await existing_topics(admin)
            self._places = [
                KafkaTopicPartition(topic, int(partition["partition"]))
                for topic in sorted(existing.keys() & set(topics))
                for partition in existing[topic]
            ]
            self._places_until = self._clock() + _PARTITIONS_KEPT_SECONDS
        return self._places

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._places_until = 0.0
        if consumer is not None:
            await consumer.stop()
