"""Sends a record just as it was, however odd: dead letters are."""

from __future__ import annotations

import asyncio
import random
from typing import Any, TypeAlias, cast

from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from streams.record_batches import Headers

Sent: TypeAlias = asyncio.Future[RecordMetadata]


async def send(
    producer: AIOKafkaProducer,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    partition: int | None = None,
) -> Sent:
    """Return once it waits to be sent; the future tells where it landed.

    Raises UnicodeEncodeError for a header whose name is no UTF-8, which the client cannot write.
    """
    named: list[Any] = [(name, value) for name, value in headers]
    if key is not None or value is not None:
        future = await producer.send(
            topic, key=key, value=value, partition=partition, headers=named
        )
        return cast(Sent, future)
    # `send` takes no record without both; Kafka does, and other clients write them.
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=None, headers=named)
    if partition is None:
        partition = random.choice(sorted(await producer.partitions_for(topic)))  # noqa: S311
    return cast(Sent, await producer.send_batch(batch, topic, partition=partition))


def writable(headers: Headers) -> Headers:
    """With escapes where a name is no UTF-8. Every other header stays as it is."""
    return tuple(
        (name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), value)
        for name, value in headers
    )
