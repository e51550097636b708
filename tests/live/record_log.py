"""What a broker holds, read from its own files: record batches as they were sent."""

from __future__ import annotations

import json
from collections import defaultdict
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.record.memory_records import MemoryRecords
from fastavro import parse_schema, schemaless_reader

from anabranch import ExposureRef, TurnMetric
from tests.live.kafka_fixture import Broker


class Stored(NamedTuple):
    partition: int
    key: bytes
    value: bytes
    headers: int


async def make_topic(broker: Broker, topic: str, **config: str) -> type[TurnMetric]:
    """A topic of four partitions, and a type of turns that goes there."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 4, 1, topic_configs=config)])
    finally:
        await admin.close()
    return turn_type(topic)


def turn_type(topic: str) -> type[TurnMetric]:
    return type("Turn", (TurnMetric,), {"TOPIC": topic, "__slots__": ()})


def turn(kind: type[TurnMetric], session: str, number: int) -> TurnMetric:
    """`number` is stored as `turn_ms`, so that order can be seen."""
    return kind(
        session=session,
        player="mfrggzdfmztwq2lkmfrggzdfma",
        exposures=(ExposureRef(experiment="tone", version=1, variation="warm", unit=session),),
        turn_ms=number,
        model_ms=1,
        bundle_tokens=1,
        output_tokens=1,
        retries=0,
        fallbacks=0,
        tool_calls=0,
        acts=1,
        choices=1,
        time_ticks=1,
    )


def batches(broker: Broker, topic: str) -> list[list[Stored]]:
    """Batch by batch, in the order of each partition."""
    found: list[list[Stored]] = []
    for folder in sorted((broker.state / "kafka" / "data").glob(f"{topic}-*")):
        partition = int(folder.name.rpartition("-")[2])
        for segment in sorted(folder.glob("*.log")):
            records = MemoryRecords(segment.read_bytes())
            while records.has_next():
                batch = records.next_batch()
                assert batch.validate_crc()
                found.append([Stored(partition, r.key, r.value, len(r.headers)) for r in batch])
    return found


def numbers(broker: Broker, topic: str) -> dict[str, list[int]]:
    """The numbers of each session, in the order stored."""
    schema = parse_schema(json.loads(TurnMetric.SCHEMA))
    found: dict[str, list[int]] = defaultdict(list)
    for batch in batches(broker, topic):
        for record in batch:
            event: Any = schemaless_reader(BytesIO(record.value[5:]), schema, None)
            assert event["session"].encode() == record.key
            found[event["session"]].append(event["turn_ms"])
    return dict(found)
