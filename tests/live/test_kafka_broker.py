from __future__ import annotations

import asyncio
import subprocess

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka import LISTENS_ON
from schemas.topics import EXPOSURES
from tests.live.kafka_fixture import COMMAND, Broker

TOPIC = "kept"


async def make_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    finally:
        await admin.close()


async def values(bootstrap: str, topic: str) -> list[bytes]:
    """Every record of the topic's first partition, without a group."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        partition = TopicPartition(topic, 0)
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
    assert await values(own_kafka.bootstrap, TOPIC) == sent


def start_memory_broker() -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [*COMMAND, "--in-memory"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        if line.startswith(LISTENS_ON):
            assert "every record is gone when it ends" in "".join(said)
            return process, line.removeprefix(LISTENS_ON).strip()
        said.append(line)
    raise AssertionError("the in-memory broker did not start")


async def test_memory_broker_says_its_limits_and_takes_produce_consume_and_commit() -> None:
    process, bootstrap = start_memory_broker()
    with process:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
            await producer.send_and_wait(EXPOSURES.name, b"here", partition=0)
        async with AIOKafkaConsumer(
            EXPOSURES.name,
            bootstrap_servers=bootstrap,
            group_id="readers",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        ) as consumer:
            record = await asyncio.wait_for(consumer.getone(), 30)
            place = TopicPartition(record.topic, record.partition)
            await consumer.commit({place: record.offset + 1})
            assert await consumer.committed(place) == record.offset + 1
        process.terminate()
    assert record.value == b"here"
    assert process.returncode == 0
