"""The way of one partition to Kafka, with at most one batch on it.

What arrives meanwhile forms the next batch: the busier it is, the larger the batches. A record
leaves its lane when Kafka has it, so whatever breaks, the lane goes on from its oldest record.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from anabranch.intake import Intake
from anabranch.kafka import Batch, KafkaError, Producer, too_large


class Record(NamedTuple):
    key: bytes
    value: bytes
    at: float
    """When its event was taken, by the monotonic clock."""


class GivenUpError(Exception):
    """Only a new producer can go on: Kafka refuses what follows a lost batch in its numbering."""


class Lane:
    def __init__(self, topic: str, partition: int, intake: Intake, patience: float) -> None:
        self.records: deque[Record] = deque()
        self.bytes = 0
        self.sending = False
        self.packed_at = 0.0  # monotonic
        self._topic = topic
        self._partition = partition
        self._intake = intake
        self._patience = patience  # seconds from emit until a record is dropped
        # Bytes in a batch, once Kafka found one too large. Kept: each refusal costs a producer.
        self._most = sys.maxsize
        self._refused = False  # the last failure was an answer of Kafka's

    def add(self, record: Record) -> None:
        self.records.append(record)
        self.bytes += len(record.key) + len(record.value)

    async def send_all(
        self, producer: Producer, is_due: Callable[[Lane], bool], progressed: Callable[[], None]
    ) -> None:
        """Returns when the lane is empty, or holds too little while more is coming."""
        while self.records and is_due(self):
            batch, count = self._packed(producer)
            await self._store(producer, batch, count)
            self._forget(count)
            self._intake.delivered(count)
            self._refused = False
            progressed()
        self.sending = False

    def _packed(self, producer: Producer) -> tuple[Batch, int]:
        batch, count, size = producer.create_batch(), 0, 0
        self.packed_at = time.monotonic()
        now = time.time_ns() // 1_000_000
        for key, value, _ in self.records:
            size += len(key) + len(value)
            if count and size > self._most:
                break
            if batch.append(timestamp=now, key=key, value=value) is None:
                break
            count += 1
        return batch, count

    async def _store(self, producer: Producer, batch: Batch, count: int) -> None:
        left = self.records[0].at + self._patience - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0.1)):
                stored = await producer.send_batch(batch, self._topic, partition=self._partition)
                await stored
        # aiokafka asserts that the partition exists; one of a topic made anew may not.
        except (KafkaError, AssertionError, TimeoutError) as error:
            self._refused = not isinstance(error, TimeoutError)
            if too_large(error):
                self._split(count)
            where = f"{self._topic}, partition {self._partition}"
            raise GivenUpError(f"{where}: {type(error).__name__} {error}".rstrip()) from error

    def _split(self, count: int) -> None:
        if count > 1:
            batch = islice(self.records, count)
            self._most = sum(len(record.key) + len(record.value) for record in batch) // 2
        else:
            self._forget(1)
            self._intake.drop("too_large", 1)

    def expire(self, now: float) -> None:
        """Drop what has waited for too long. Never while a batch is on its way."""
        count = 0
        for record in self.records:
            if record.at + self._patience > now:
                break
            count += 1
        if count:
            self._forget(count)
            self._intake.drop("rejected" if self._refused else "delivery_timeout", count)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            record = self.records.popleft()
            self.bytes -= len(record.key) + len(record.value)
