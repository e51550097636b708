"""Dead letters that are larger than what a topic takes: they must not stop their partition."""

from __future__ import annotations

import os

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import OUTCOMES
from service.settings import TopicSettings
from streams.dead_letters import DeadLetterTopics
from streams.decoded import DeadRecord
from streams.reasons import BadEventReason
from streams.topic_admin import ensure_topics
from tests.live.kafka_fixture import Broker


def _dead(offset: int, key: bytes | None, value: bytes | None) -> DeadRecord:
    reason = BadEventReason.INVALID
    return DeadRecord(offset, 1_700_000_000_000, key, value, (), reason, "made up", None)


async def _published(broker: Broker, partition: int, *dead: DeadRecord) -> dict[bytes, object]:
    """What Kafka has of them, by their offsets: key, value, what was left out."""
    await ensure_topics(broker.settings, TopicSettings())
    topics = DeadLetterTopics(broker.settings)
    try:
        await topics.publish(OUTCOMES, partition, dead)
    finally:
        await topics.close()
    assert OUTCOMES.dead_letters is not None
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = [TopicPartition(OUTCOMES.dead_letters, number) for number in range(4)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        found: dict[bytes, object] = {}
        while len(found) < len(dead):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    headers = dict(record.headers)
                    if headers["dlq.partition"] == str(partition).encode():
                        left_out = headers.get("dlq.left_out")
                        found[headers["dlq.offset"]] = (record.key, record.value, left_out)
        return found
    finally:
        await consumer.stop()


async def test_dead_letter_keeps_its_bytes_when_they_are_small_once_compressed(
    kafka: Broker,
) -> None:
    value = b"x" * 20_000_000
    found = await _published(kafka, 1_001, _dead(1, b"k", value))
    assert found == {b"1": (b"k", value, None)}


async def test_dead_letter_leaves_out_what_kafka_does_not_take(kafka: Broker) -> None:
    large, small = os.urandom(5_000_000), b"small"
    found = await _published(
        kafka, 1_002, _dead(1, b"k", large), _dead(2, large, None), _dead(3, b"k", small)
    )
    assert found == {
        b"1": (b"k", None, b"a value of 5000000 bytes"),
        b"2": (None, None, b"key, value and headers"),
        b"3": (b"k", small, None),
    }
