"""Which offsets came since when, as a broker tells it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from streams.kafka_log import Bounds, TopicPartition
from streams.log_ends import LogEnds
from streams.topic_admin import admin_client
from tests.live.kafka_fixture import Broker

TOPIC = "log-ends-test"
OLD, NEW = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


async def test_firsts_are_the_offsets_of_what_came_at_each_time_or_later(kafka: Broker) -> None:
    async with admin_client(kafka.settings) as admin:
        await admin.create_topics([NewTopic(TOPIC, 2, 1)])
    now = datetime.now(UTC)
    hour_ago, minute_ago = now - timedelta(hours=1), now - timedelta(minutes=1)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for place, at in ((OLD, hour_ago), (NEW, hour_ago), (NEW, now)):
            at_ms = round(at.timestamp() * 1000)
            await producer.send_and_wait(
                place.topic, b"record", partition=place.partition, timestamp_ms=at_ms
            )
    finally:
        await producer.stop()
    ends = LogEnds(kafka.settings)
    try:
        bounds = await ends.read([TOPIC])
        firsts = await ends.firsts([OLD, NEW], [hour_ago - timedelta(minutes=1), minute_ago])
    finally:
        await ends.close()
    assert bounds == {OLD: Bounds(0, 1), NEW: Bounds(0, 2)}
    assert list(firsts[OLD].values()) == [0]
    assert firsts[NEW] == {hour_ago - timedelta(minutes=1): 0, minute_ago: 1}
