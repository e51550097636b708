"""What is in the event topics, read by a client that shares nothing with the code under test."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import fastavro
from aiokafka import AIOKafkaConsumer, TopicPartition

from anabranch.events import RECORD_TYPES
from anabranch.settings import KafkaSettings
from schemas.topics import TOPICS
from service.settings import TopicSettings

PARTITIONS = TopicSettings().partitions


class Stored(NamedTuple):
    key: bytes
    event: dict[str, Any]
    headers: tuple[Any, ...]
    partition: int


async def stored_events(settings: KafkaSettings, topic: str) -> list[Stored]:
    """Everything in the topic, in the order of each partition."""
    schema = fastavro.parse_schema(
        json.loads(next(e.SCHEMA for e in RECORD_TYPES if topic == e.TOPIC))
    )
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(_partitions(topic))]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for place in partitions:
            consumer.seek(place, 0)
        found: list[Stored] = []
        while any([await consumer.position(place) < ends[place] for place in partitions]):
            fetched = await consumer.getmany(timeout_ms=500)
            for records in fetched.values():
                for record in records:
                    assert record.value[0] == 0
                    body = io.BytesIO(record.value[5:])
                    event: Any = fastavro.schemaless_reader(body, schema)
                    found.append(Stored(record.key, event, record.headers, record.partition))
        return found
    finally:
        await consumer.stop()


def _partitions(topic: str) -> int:
    (spec,) = (spec for spec in TOPICS if spec.name == topic)
    return PARTITIONS if spec.partitions == "setting" else spec.partitions
