"""The service's connection to Kafka: kept up in the background, its state always known at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Any

import structlog

from anabranch.kafka import KafkaError, Producer, open_producer
from anabranch.settings import EmitterSettings, KafkaSettings

logger = structlog.get_logger("service.kafka_link")

_CHECK_SECONDS = 2.0
_CHECK_TIMEOUT_SECONDS = 5.0
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)


class Connection:
    """One producer, from its start until it is given up."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.given_up: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def give_up(self) -> None:
        if not self.given_up.done():
            self.given_up.set_result(None)


class KafkaLink:
    """`problem` is None while Kafka answers; `partitions` holds the topics that exist."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.problem: str | None = "not connected yet"
        self.partitions: Mapping[str, int] = {}
        self._settings = settings
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_up(), name="kafka-link")

    async def stop(self, *, flush_seconds: float) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            await self._end(self._connection, flush_seconds)

    async def check(self) -> str | None:
        return self.problem

    async def check_topics(self, needed: Collection[str]) -> str | None:
        missing = sorted(set(needed) - self.partitions.keys())
        if missing:
            return f"{', '.join(missing)} not seen in Kafka; `anabranch topics --create` makes them"
        return None

    async def connection(self) -> Connection:
        """Waits for a producer; the caller sets the limit."""
        while self._connection is None:
            await self._connected.wait()
        return self._connection

    async def _keep_up(self) -> None:
        failures = 0
        while True:
            producer = open_producer(self._settings, EmitterSettings())
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                self.problem = f"cannot connect to {self._settings.bootstrap}: {error}"
                logger.warning("kafka is away", problem=self.problem)
                await producer.stop()
                await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            connection = self._connection = Connection(producer)
            self._connected.set()
            await self._watch(connection)
            self._connection = None
            self._connected.clear()
            await self._end(connection, _CHECK_TIMEOUT_SECONDS)

    async def _watch(self, connection: Connection) -> None:
        client = connection.producer.client
        while not connection.given_up.done():
            try:
                async with asyncio.timeout(_CHECK_TIMEOUT_SECONDS):
                    answered = await client.force_metadata_update()
            except TimeoutError:
                answered = False
            if answered:
                # Of all topics: the producer never asked for one by name, which could create it.
                self.partitions = {
                    topic: len(client.cluster.partitions_for_topic(topic))
                    for topic in client.cluster.topics()
                }
            self._say(None if answered else f"no broker of {self._settings.bootstrap} answers")
            await asyncio.wait([connection.given_up], timeout=_CHECK_SECONDS)

    def _say(self, problem: str | None) -> None:
        if problem != self.problem:
            if problem is None:
                logger.info("kafka answers", topics=len(self.partitions))
            else:
                logger.warning("kafka is away", problem=problem)
        self.problem = problem

    async def _end(self, connection: Connection, flush_seconds: float) -> None:
        try:
            async with asyncio.timeout(flush_seconds):
                await connection.producer.stop()
        except TimeoutError:
            logger.warning("kafka did not take everything in time", seconds=flush_seconds)
            await connection.producer.client.close()
            # Its sender would go on to ask a closed client, for as long as this process lives.
            sender: Any = connection.producer
            sender._sender.sender_task.cancel()
        connection.give_up()
