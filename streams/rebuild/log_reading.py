"""What a rebuild asks of Kafka: where logs begin and end, the ledger's entries, and ranges again.

No member of any group, so that the workers hear nothing of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from anabranch.fields import milliseconds
from anabranch.settings import KafkaSettings
from schemas.topics import CATALOGUE
from streams.connection import client_options
from streams.kafka_log import Bounds, TopicPartition
from streams.ledger import Entry, read_entry
from streams.rebuild.fresh import RebuildError
from streams.record_batches import RecordBatch
from streams.topic_admin import admin_client, existing_topics
from streams.transport import FETCH_BYTES, PARTITION_FETCH_BYTES, deliver_batches

_POLL_MS = 1_000
_SILENT_POLLS = 60
_BATCHES_AT_ONCE = 2_000


class GoneError(Exception):
    """Kafka has deleted the first of the offsets asked for."""


class PartitionReader:
    """Reads ranges of one partition, best in their order."""

    def __init__(self, consumer: Any, partition: Any) -> None:
        self._consumer = consumer
        self._partition = partition
        self._position = -1
        self._kept: list[RecordBatch] = []

    async def take(self, first: int, last: int) -> list[RecordBatch]:
        """Every batch that has a part in the range. Raises GoneError."""
        kept = [batch for batch in self._kept if batch.last >= first]
        if kept and kept[0].start > first:
            kept = []
        position = kept[-1].last + 1 if kept else first
        silent = 0
        while position <= last:
            if position != self._position:
                self._consumer.seek(self._partition, position)
            arrived = await self._arrived(position)
            silent = 0 if arrived else silent + 1
            if silent > _SILENT_POLLS:
                raise RebuildError(
                    f"Kafka gives nothing of {self._partition.topic}/{self._partition.partition} "
                    f"from {position} on, though the tables say that {last} was read before"
                )
            kept += arrived
            self._position = position = arrived[-1].last + 1 if arrived else position
        self._kept = kept
        return [batch for batch in kept if batch.first <= last]

    async def _arrived(self, position: int) -> list[RecordBatch]:
        try:
            found = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCHES_AT_ONCE)
        except OffsetOutOfRangeError as error:
            self._position = -1
            raise GoneError(f"{self._partition} at {position}") from error
        return [batch for batches in found.values() for batch in batches]


class LogReading:
    def __init__(self, kafka: KafkaSettings, group: str, *, check_crcs: bool = True) -> None:
        self._kafka = kafka
        self._group = group
        self._check_crcs = check_crcs

    async def places(self) -> list[TopicPartition]:
        """The partitions of all topics of the catalogue that exist."""
        async with admin_client(self._kafka) as admin:
            existing = await existing_topics(admin)
        return [
            TopicPartition(spec.name, part["partition"])
            for spec in CATALOGUE
            for part in existing.get(spec.name, ())
        ]

    async def entries(self) -> dict[TopicPartition, Entry]:
        """What the ledger says now; without partitions that have no entry of ours."""
        async with admin_client(self._kafka) as admin:
            found = await admin.list_consumer_group_offsets(self._group)
        entries = {
            TopicPartition(*place): read_entry(at.offset, at.metadata)
            for place, at in found.items()
            if at.offset >= 0
        }
        return {place: entry for place, entry in entries.items() if entry is not None}

    async def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        partitions = [KafkaTopicPartition(*place) for place in places]
        async with self._consumer() as consumer:
            starts = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
        return {TopicPartition(*at): Bounds(starts[at], ends[at]) for at in partitions}

    async def offsets_at(
        self, places: Iterable[TopicPartition], moment: datetime
    ) -> Mapping[TopicPartition, int | None]:
        """The first record of each that is as young; None where none is."""
        asked = {KafkaTopicPartition(*place): milliseconds(moment) for place in places}
        async with self._consumer() as consumer:
            found = await consumer.offsets_for_times(asked)
        return {
            TopicPartition(*place): None if at is None else int(at.offset)
            for place, at in found.items()
        }

    @asynccontextmanager
    async def reader(self, place: TopicPartition) -> AsyncIterator[PartitionReader]:
        async with self._consumer() as consumer:
            deliver_batches(consumer)
            partition = KafkaTopicPartition(*place)
            consumer.assign([partition])
            yield PartitionReader(consumer, partition)

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        consumer = AIOKafkaConsumer(
            client_id="anabranch-rebuild",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=self._check_crcs,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            **client_options(self._kafka),
        )
        try:
            await consumer.start()
            yield consumer
        except KafkaError as error:
            raise RebuildError(f"Kafka at {self._kafka.bootstrap}: {error!r}") from error
        finally:
            await consumer.stop()
