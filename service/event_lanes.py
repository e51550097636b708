"""One partition's way to Kafka, with at most one batch on it.

What arrives meanwhile forms the next batch. So the busier it is, the larger the batches, and a
partition without a leader holds up none but itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from anabranch.kafka import Batch, KafkaError
from service.kafka_link import Connection, KafkaLink
from service.metrics import ServiceMetrics

logger = structlog.get_logger("service.event_lanes")


class Parcel:
    """The records of one request for one partition.

    `stored` resolves to None, or to what went wrong; it never raises, so that nobody needs to wait
    for it.
    """

    def __init__(self, records: list[tuple[bytes, bytes]]) -> None:
        self.records = records
        self.packed = 0  # how many of them are in a batch that is on its way or stored
        self.stored: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def settle(self, problem: str | None) -> None:
        if not self.stored.done():
            self.stored.set_result(problem)

    def pack(self, batch: Batch, now_ms: int) -> bool:
        """Puts the rest into the batch; False when the batch is full before the end."""
        for key, value in self.records[self.packed :]:
            if batch.append(timestamp=now_ms, key=key, value=value) is None:
                return False
            self.packed += 1
        return True


class Lane:
    def __init__(
        self,
        topic: str,
        partition: int,
        link: KafkaLink,
        metrics: ServiceMetrics,
        *,
        leave: Callable[[int], None],
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._link = link
        self._metrics = metrics
        self._leave = leave  # told how many records are no longer in flight
        self._waiting: deque[Parcel] = deque()
        self._sender: asyncio.Task[None] | None = None

    def add(self, parcel: Parcel) -> None:
        self._waiting.append(parcel)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())

    def withdraw(self, parcel: Parcel) -> None:
        """Whoever waited has gone: what is not on its way yet need not be sent at all."""
        if parcel in self._waiting and parcel.packed == 0:
            self._waiting.remove(parcel)
            self._leave(len(parcel.records))

    async def stop(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await self._sender

    async def _send_all(self) -> None:
        while self._waiting:
            connection = await self._link.connection()
            # After the wait: what was withdrawn meanwhile is gone.
            if self._waiting:
                await self._send_one(connection)

    async def _send_one(self, connection: Connection) -> None:
        batch = connection.producer.create_batch()
        now_ms = time.time_ns() // 1_000_000
        complete: list[Parcel] = []
        while self._waiting and self._waiting[0].pack(batch, now_ms):
            complete.append(self._waiting.popleft())
        problem = await self._delivered(batch, connection)
        if problem is not None and self._waiting and self._waiting[0].packed:
            complete.append(self._waiting.popleft())  # its first part was in this batch
        for parcel in complete:
            parcel.settle(problem)
            self._leave(len(parcel.records))

    async def _delivered(self, batch: Batch, connection: Connection) -> str | None:
        started = time.perf_counter()
        try:
            stored = await connection.producer.send_batch(
                batch, self._topic, partition=self._partition
            )
            await asyncio.wait([stored, connection.given_up], return_when=asyncio.FIRST_COMPLETED)
            if not stored.done():
                stored.cancel()
                return "the connection to Kafka was given up"
            stored.result()
        except (KafkaError, AssertionError) as error:
            # aiokafka asserts that a partition exists; one of a topic made anew may not.
            # An idempotent producer numbers its batches: after one that failed for good, Kafka
            # refuses those that follow. Only a new producer can go on.
            connection.give_up()
            name = type(error).__name__
            self._metrics.produce_failures.labels(name).inc()
            logger.warning("kafka refused a batch", topic=self._topic, error=name)
            return f"Kafka refused a batch of {self._topic}: {error}"
        self._metrics.produce_seconds.labels(self._topic).observe(time.perf_counter() - started)
        return None
