from __future__ import annotations

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.live.kafka_fixture import Broker

TOPIC = "kept"


async def make_topic(bootstrap: str, partitions: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, partitions, 1)])
    finally:
        await admin.close()


async def values(bootstrap: str) -> list[bytes]:
    """Every record of the topic's first partition, without a group."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning()
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while len(found) < end:
            batches = await consumer.getmany(timeout_ms=5000)
            found += [record.value for batch in batches.values() for record in batch]
        return found


async def test_broker_keeps_acknowledged_records_when_it_is_killed(own_kafka: Broker) -> None:
    await make_topic(own_kafka.bootstrap)
    sent = [b"%d" % number for number in range(1000)]
    async with AIOKafkaProducer(bootstrap_servers=own_kafka.bootstrap, acks="all") as producer:
        for value in sent:
            await producer.send(TOPIC, value)
        await producer.flush()
        own_kafka.kill()
    own_kafka.start()
    assert await values(own_kafka.bootstrap) == sent
