"""The definition log as it comes from Kafka, from its beginning; without a consumer group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from anabranch.definition_records import LogRecord
from anabranch.settings import KafkaSettings
from streams.connection import client_options
from streams.definition_decoding import DefinitionDecoder
from streams.topic_admin import TopicError, admin_client, existing_topics

ANSWER_SECONDS = 5.0
_POLL_MS = 500
_RECORDS_AT_ONCE = 200  # some 20 ms of work, after which requests have their turn
_FETCH_BYTES = 8 << 20


class DefinitionSource:
    def __init__(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, decoder: DefinitionDecoder
    ) -> None:
        self._consumer = consumer
        self._place = place
        self._decoder = decoder

    async def next(self) -> list[LogRecord]:
        """What has come, after half a second at most; nothing may mean that Kafka is away."""
        await asyncio.sleep(0)  # what is buffered comes without a pause
        fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_RECORDS_AT_ONCE)
        return [
            await self._decoder.decode(record.offset, record.key, record.value)
            for record in fetched.get(self._place, ())
        ]

    async def position(self) -> int:
        """Beyond the last record by more than one where compaction took those behind it."""
        return int(await self._consumer.position(self._place))

    async def end(self) -> int:
        """Asks Kafka."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return int((await self._consumer.end_offsets([self._place]))[self._place])


@asynccontextmanager
async def connected(
    kafka: KafkaSettings, topic: str, decoder: DefinitionDecoder
) -> AsyncIterator[DefinitionSource]:
    async with asyncio.timeout(2 * ANSWER_SECONDS), admin_client(kafka) as admin:
        # A consumer that asks for a topic by name could create it.
        if topic not in await existing_topics(admin):
            raise TopicError(f"{topic} is missing; `anabranch topics --create` makes it")
    place = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(
        client_id="anabranch-definitions",
        enable_auto_commit=False,
        auto_offset_reset="none",  # a log that ends before our place is another log
        request_timeout_ms=int(ANSWER_SECONDS * 1000),
        max_partition_fetch_bytes=_FETCH_BYTES,
        **client_options(kafka),
    )
    try:
        async with asyncio.timeout(2 * ANSWER_SECONDS):
            await consumer.start()
            consumer.assign([place])
            begin = (await consumer.beginning_offsets([place]))[place]
            consumer.seek(place, begin)
        yield DefinitionSource(consumer, place, decoder)
    finally:
        await _stopped(consumer)


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    """In a task of its own: while Kafka is away, aiokafka's stop() may end by a CancelledError that
    nobody asked for, and the task that awaits it would take it for its own end."""
    stopping = asyncio.create_task(consumer.stop())
    done, _ = await asyncio.wait([stopping], timeout=ANSWER_SECONDS)
    if not done:
        stopping.cancel()
        return
    with contextlib.suppress(KafkaError, asyncio.CancelledError):
        stopping.result()
