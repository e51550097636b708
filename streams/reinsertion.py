"""Puts dead letters into their topics again: the same bytes, into the partition they came from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from anabranch.settings import KafkaSettings
from streams.connection import client_options
from streams.record_batches import Headers
from streams.replay_headers import Origin, replay_headers
from streams.sending import send
from streams.topic_admin import TopicError, admin_client, existing_topics

_REQUEST_TIMEOUT_MS = 10_000
_LARGEST_RECORD_BYTES = 256 << 20  # the broker looks at the compressed size, the client at this


class Returned(NamedTuple):
    """What is put back."""

    letter: Origin
    key: bytes | None
    value: bytes | None
    headers: Headers


class Reinsertion:
    def __init__(self, producer: AIOKafkaProducer, partitions: dict[str, frozenset[int]]) -> None:
        self._producer = producer
        self._partitions = partitions

    async def put(self, records: Sequence[Returned]) -> list[int | str]:
        """Of each, the offset that it got, or why it got none. Kafka may hold one that it seemed to
        refuse: a worker stores it once all the same."""
        answers = [await self._sent(record) for record in records]
        return [await answer if isinstance(answer, asyncio.Task) else answer for answer in answers]

    async def _sent(self, record: Returned) -> asyncio.Task[int | str] | str:
        topic, partition, *_ = record.letter
        if partition not in self._partitions.get(topic, ()):
            return f"{topic} has no partition {partition}"
        headers = replay_headers(record.headers, record.letter)
        try:
            sent = await send(
                self._producer, topic, record.key, record.value, headers, partition=partition
            )
        except UnicodeEncodeError:
            return "a header has a name that is no UTF-8, which cannot be written"
        except KafkaError as error:
            return _reason(error)
        return asyncio.ensure_future(_offset(sent))


@asynccontextmanager
async def reinsertion(kafka: KafkaSettings) -> AsyncIterator[Reinsertion]:
    """Raises TopicError when Kafka does not answer."""
    async with admin_client(kafka) as admin:
        existing = await existing_topics(admin)
    partitions = {
        topic: frozenset(part["partition"] for part in parts) for topic, parts in existing.items()
    }
    producer = AIOKafkaProducer(
        client_id="anabranch-replay",
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",  # one that fitted into its topic compressed has to fit again
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        max_request_size=_LARGEST_RECORD_BYTES,
        **client_options(kafka),
    )
    try:
        await producer.start()
        yield Reinsertion(producer, partitions)
    except KafkaError as error:
        raise TopicError(f"Kafka at {kafka.bootstrap} does not answer: {error}") from error
    finally:
        await producer.stop()


async def _offset(sent: asyncio.Future[RecordMetadata]) -> int | str:
    try:
        return int((await sent).offset)
    except KafkaError as error:
        return _reason(error)


def _reason(error: KafkaError) -> str:
    return f"Kafka did not take it: {error}"
