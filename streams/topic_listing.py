"""What stands in each topic, and how far its readers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from anabranch.settings import KafkaSettings
from schemas.topics import CATALOGUE
from streams.connection import client_options
from streams.topic_admin import admin_client, existing_topics


class PartitionState(NamedTuple):
    topic: str
    partition: int
    first: int
    """The offset of the oldest record that is kept."""
    end: int
    """The offset that the next record gets."""
    lag: Mapping[str, int]
    """By consumer group: records it has not committed. Groups that never committed are left out."""

    @property
    def records(self) -> int:
        """At most: a compacted topic has gaps."""
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Listing:
    partitions: tuple[PartitionState, ...]
    missing: tuple[str, ...]
    """Topics of the catalogue that do not exist."""


async def list_topics(kafka: KafkaSettings) -> Listing:
    async with admin_client(kafka) as admin:
        existing = await existing_topics(admin)
        names = [spec.name for spec in CATALOGUE if spec.name in existing]
        partitions = [
            TopicPartition(name, part["partition"])
            for name in names
            for part in sorted(existing[name], key=lambda part: part["partition"])
        ]
        committed = await _committed(admin, set(partitions))
        first, end = await _offsets(kafka, partitions)
    states = tuple(
        PartitionState(
            topic=place.topic,
            partition=place.partition,
            first=first[place],
            end=end[place],
            lag={
                group: max(0, end[place] - offsets[place])
                for group, offsets in committed.items()
                if place in offsets
            },
        )
        for place in partitions
    )
    return Listing(states, tuple(spec.name for spec in CATALOGUE if spec.name not in existing))


async def _committed(admin: Any, ours: set[TopicPartition]) -> dict[str, dict[TopicPartition, int]]:
    found = {}
    for group, _ in sorted(await admin.list_consumer_groups()):
        offsets = await admin.list_consumer_group_offsets(group)
        mine = {place: at.offset for place, at in offsets.items() if place in ours}
        if mine:
            found[group] = {place: offset for place, offset in mine.items() if offset >= 0}
    return found


async def _offsets(
    kafka: KafkaSettings, partitions: list[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    if not partitions:
        return {}, {}
    # The admin client knows no offsets; a consumer without a group leaves nothing behind.
    consumer = AIOKafkaConsumer(client_id="anabranch-topics", **client_options(kafka))
    try:
        await consumer.start()
        return (
            await consumer.beginning_offsets(partitions),
            await consumer.end_offsets(partitions),
        )
    finally:
        await consumer.stop()
