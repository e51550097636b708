"""The records of a topic as they come, decoded. Leaves no consumer group and no topic behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from anabranch.fields import milliseconds
from anabranch.settings import KafkaSettings
from streams.connection import client_options
from streams.decoding import Decoder, UndecodableError
from streams.topic_admin import TopicError, admin_client, existing_topics

_POLL_MS = 1000
_PROBE_SECONDS = 5.0
_CONNECT_AGAIN_SECONDS = 1.0


class TailedRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    payload: bytes | None
    event: dict[str, Any] | None
    problem: str | None
    """Why `payload` could not be decoded."""


class Tail:
    """`notice` is told when Kafka goes away and when it is back; the records then go on."""

    def __init__(
        self,
        kafka: KafkaSettings,
        decoder: Decoder,
        notice: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._kafka = kafka
        self._decoder = decoder
        self._notice = notice
        self._sleep = sleep
        self._away = False

    async def records(
        self, topic: str, start: datetime | Literal["beginning", "end"]
    ) -> AsyncGenerator[TailedRecord, None]:
        """From `start` on, without an end."""
        consumer = await self._connected()
        try:
            partitions = await self._partitions(topic)
            consumer.assign(partitions)
            await self._seek(consumer, partitions, start)
            while True:
                batches = await consumer.getmany(timeout_ms=_POLL_MS)
                if not batches:
                    await self._probe(consumer, partitions)
                arrived = [record for batch in batches.values() for record in batch]
                # In a thread: the first record of a schema asks the registry.
                for tailed in await asyncio.to_thread(self._decoded, arrived):
                    yield tailed
        except KafkaError as error:
            raise TopicError(f"{topic} cannot be read: {error}") from error
        finally:
            await consumer.stop()

    async def _connected(self) -> Any:
        while True:
            consumer = AIOKafkaConsumer(
                client_id="anabranch-tail",
                enable_auto_commit=False,
                auto_offset_reset="earliest",  # where retention overtook the reader
                **client_options(self._kafka),
            )
            try:
                await consumer.start()
            except KafkaError:
                await consumer.stop()
                self._say(away=True)
                await self._sleep(_CONNECT_AGAIN_SECONDS)
            else:
                self._say(away=False)
                return consumer

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        async with admin_client(self._kafka) as admin:
            existing = await existing_topics(admin)
        if topic not in existing:
            known = ", ".join(sorted(existing)) or "none yet"
            raise TopicError(f"there is no topic {topic!r}; there are: {known}")
        return sorted(TopicPartition(topic, part["partition"]) for part in existing[topic])

    async def _seek(
        self,
        consumer: Any,
        partitions: list[TopicPartition],
        start: datetime | Literal["beginning", "end"],
    ) -> None:
        if start == "beginning":
            await consumer.seek_to_beginning(*partitions)
            return
        # Looked up now: a seek to the end happens at the first fetch, after records have come.
        ends = await consumer.end_offsets(partitions)
        found: dict[TopicPartition, Any] = {}
        if isinstance(start, datetime):
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, milliseconds(start)))
        for partition in partitions:
            at = found.get(partition)
            consumer.seek(partition, ends[partition] if at is None else at.offset)

    async def _probe(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """No records may mean silence, or that Kafka is away: the consumer itself does not say."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await consumer.end_offsets(partitions[:1])
        except (KafkaError, TimeoutError):
            self._say(away=True)
        else:
            self._say(away=False)

    def _say(self, *, away: bool) -> None:
        if away != self._away:
            where = self._kafka.bootstrap
            self._notice(
                f"Kafka at {where} does not answer; trying again" if away else "Kafka answers again"
            )
        self._away = away

    def _decoded(self, records: Iterable[Any]) -> list[TailedRecord]:
        """In the order of their times, as far as they came together."""
        ordered = sorted(records, key=lambda record: record.timestamp)
        return [self._decoded_one(record) for record in ordered]

    def _decoded_one(self, record: Any) -> TailedRecord:
        event, problem = None, None
        try:
            event = self._decoder.decode(record.value)
        except UndecodableError as error:
            problem = str(error)
        return TailedRecord(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            key=record.key,
            headers=tuple(record.headers),
            payload=record.value,
            event=event,
            problem=problem,
        )


async def limited(
    records: AsyncGenerator[TailedRecord, None], count: int | None
) -> AsyncGenerator[TailedRecord, None]:
    seen = 0
    # aclosing: the consumer is stopped here and now, not when the generator is collected.
    async with contextlib.aclosing(records) as open_records:
        async for record in open_records:
            yield record
            seen += 1
            if count is not None and seen >= count:
                return
