"""Simulated traffic that is encoded beforehand and sent at a steady rate.

Those who send are elsewhere in production: the encoding of their events should not take the time of
the machine that is measured. What is left here is that of sending.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from itertools import islice

from aiokafka import AIOKafkaProducer

from anabranch.encoding import Encoder, partition_of
from anabranch.fields import Event
from anabranch.registry import Registry
from anabranch.settings import RegistrySettings
from service.traffic import Traffic

PARTITIONS = 4
_TICK_MS = 100
_MICROSECONDS_AN_EVENT = 100  # to make one, at most
_LARGEST_BATCH = 1_000_000

Batch = tuple[str, int, list[tuple[bytes, bytes]]]


class PreparedTraffic:
    """Of `seconds`, from when it is ready on."""

    def __init__(self, registry_url: str, experiment: str, rate: int, seconds: float) -> None:
        self._registry = Registry(RegistrySettings(url=registry_url))
        self._encoders: dict[type[Event], Encoder] = {}
        events = round(rate * seconds)
        patience_ms = 2_000 + events * _MICROSECONDS_AN_EVENT // 1_000
        self._start_ms = time.time_ns() // 1_000_000 + patience_ms
        source = Traffic(1, self._start_ms, rate, (experiment,)).events()
        a_tick = max(1, rate * _TICK_MS // 1_000)
        self._ticks = [self._batches(list(islice(source, a_tick))) for _ in range(events // a_tick)]

    def _batches(self, events: list[Event]) -> list[Batch]:
        records: defaultdict[tuple[str, int], list[tuple[bytes, bytes]]] = defaultdict(list)
        for event in events:
            key, value = self._encoder(type(event)).encode(event)
            records[event.TOPIC, partition_of(key, PARTITIONS)].append((key, value))
        return [(topic, partition, found) for (topic, partition), found in records.items()]

    def _encoder(self, kind: type[Event]) -> Encoder:
        encoder = self._encoders.get(kind)
        if encoder is None:
            schema_id = self._registry.id_of(f"{kind.TOPIC}-value", kind.SCHEMA)
            encoder = self._encoders[kind] = Encoder(kind, schema_id)
        return encoder

    async def begins(self) -> None:
        left = self._start_ms / 1_000 - time.time()
        if left < 0:
            raise SystemExit(f"encoding took {-left:.1f} s more than was planned for it")
        await asyncio.sleep(left)

    async def send(self, kafka: str) -> None:
        """From its beginning on."""
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka, compression_type="zstd", max_batch_size=_LARGEST_BATCH
        )
        await producer.start()
        try:
            for number, batches in enumerate(self._ticks):
                at = self._start_ms + number * _TICK_MS
                await asyncio.sleep(at / 1_000 - time.time())
                for topic, partition, records in batches:
                    builder = producer.create_batch()
                    for key, value in records:
                        if builder.append(timestamp=at, key=key, value=value) is None:
                            raise SystemExit(f"{len(records):,} records do not fit one batch")
                    builder.close()
                    sent = await producer.send_batch(builder, topic, partition=partition)
                    sent.add_done_callback(lambda done: done.result())
        finally:
            await producer.stop()
