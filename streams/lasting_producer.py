"""A producer that is replaced when it is past repair, as after a number out of sequence."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from anabranch.settings import KafkaSettings
from streams.connection import client_options

_CLOSE_SECONDS = 5.0


class LastingProducer:
    """Idempotent, and acknowledged by all replicas in sync."""

    def __init__(self, kafka: KafkaSettings, **options: Any) -> None:
        self._kafka = kafka
        self._options = options
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()  # partitions come here at the same time
        self._leaving: set[asyncio.Task[None]] = set()

    async def started(self) -> AIOKafkaProducer:
        """The present one. Raises KafkaError or OSError."""
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    acks="all",
                    enable_idempotence=True,
                    # What was small in its source for being compressed has to be so here: the
                    # broker looks at the compressed size, the client at the other.
                    compression_type="zstd",
                    **self._options,
                    **client_options(self._kafka),
                )
                try:
                    await producer.start()
                except BaseException:  # cancelled, too: no open connection is left
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def replace(self, producer: AIOKafkaProducer) -> None:
        """The next try takes a new one. The end of this one is not waited for, since it tries to
        deliver what it still has."""
        if self._producer is not producer:
            return
        self._producer = None
        task = asyncio.create_task(_stopped(producer))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Whatever is under way was not waited for by anybody."""
        if self._producer is not None:
            self.replace(self._producer)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=_CLOSE_SECONDS)
        for task in self._leaving:
            task.cancel()


async def _stopped(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, OSError):
        await producer.stop()
