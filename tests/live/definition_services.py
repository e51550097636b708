"""What the service has for definitions, as often as a test wants it: a reader and a log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from anabranch.encoding import Encoder
from anabranch.events import ExperimentRecord
from anabranch.settings import KafkaSettings
from schemas.releases import releases
from schemas.topics import EXPERIMENTS
from service.definition_log import DefinitionLog
from service.kafka_link import KafkaLink
from service.metrics import ServiceMetrics
from service.schema_catalogue import Catalogue
from service.schema_ids import SchemaIds
from service.settings import Settings
from streams.definition_decoding import released_schema
from streams.definition_reader import DefinitionReader

IDS = SchemaIds([ExperimentRecord], Catalogue(releases()), Settings())
assert IDS.of_topic is not None
ENCODER = Encoder(ExperimentRecord, IDS.of_topic[EXPERIMENTS.name])


class DefinitionService(NamedTuple):
    log: DefinitionLog
    reader: DefinitionReader
    metrics: ServiceMetrics

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def definition_service(
    kafka: KafkaSettings, topic: str, folder: Path | None = None, *, timeout: float = 5.0
) -> AsyncIterator[DefinitionService]:
    metrics = ServiceMetrics()
    link = KafkaLink(kafka)
    reader = DefinitionReader(
        kafka, released_schema, metrics.definitions, folder=folder, topic=topic
    )
    log = DefinitionLog(link, IDS, reader, metrics, timeout=timeout)
    link.start()
    try:
        await reader.start()
        log.start()
        yield DefinitionService(log, reader, metrics)
    finally:
        await log.stop()
        await reader.stop()
        await link.stop(flush_seconds=5)


@asynccontextmanager
async def _admin(kafka: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_log(kafka: KafkaSettings, topic: str, **config: str) -> None:
    wanted = {**EXPERIMENTS.config(1), **config}
    async with _admin(kafka) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=wanted)])


async def delete_log(kafka: KafkaSettings, topic: str) -> None:
    async with _admin(kafka) as admin:
        await admin.delete_topics([topic])


def encoded(record: ExperimentRecord) -> tuple[bytes, bytes]:
    return ENCODER.encode(record)


async def append(
    kafka: KafkaSettings, topic: str, *records: tuple[bytes | None, bytes | None]
) -> None:
    """As any producer could, whatever it is."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    await producer.start()
    try:
        await asyncio.gather(
            *[await producer.send(topic, key=key, value=value) for key, value in records]
        )
    finally:
        await producer.stop()


async def until(holds: Callable[[], object], *, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  what a process outside of us does
            await asyncio.sleep(0.02)
