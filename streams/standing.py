"""What Kafka holds of each partition beside its records: where its log ends, and the ledger."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from anabranch.settings import KafkaSettings
from streams.connection import client_options
from streams.kafka_log import TopicPartition
from streams.ledger import Entry, read_entry
from streams.topic_admin import admin_client, existing_topics


class Standing(NamedTuple):
    start: int
    """The offset of the oldest record."""
    end: int
    """The offset that the next record gets."""
    entry: Entry | None
    """None where nothing was ever about to be applied, or a tool has set the offset."""


async def read_standings(
    kafka: KafkaSettings, group: str, topics: Collection[str]
) -> Mapping[TopicPartition, Standing]:
    """Of all partitions of these topics. TopicError: Kafka does not say."""
    async with admin_client(kafka) as admin:
        existing = await existing_topics(admin)
        places = [
            KafkaTopicPartition(name, part["partition"])
            for name in topics
            if name in existing
            for part in existing[name]
        ]
        committed = await admin.list_consumer_group_offsets(group)
        # The admin client knows no offsets; a consumer without a group leaves nothing behind.
        consumer = AIOKafkaConsumer(client_id="anabranch-standing", **client_options(kafka))
        try:
            await consumer.start()
            starts = await consumer.beginning_offsets(places) if places else {}
            ends = await consumer.end_offsets(places) if places else {}
        finally:
            await consumer.stop()
    found = {}
    for place in places:
        said = committed.get(place)
        entry = None if said is None else read_entry(said.offset, said.metadata)
        found[TopicPartition(*place)] = Standing(starts[place], ends[place], entry)
    return found
