"""Who asks for assignments over Kafka, by clients that share nothing with the worker."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import fastavro
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from anabranch.definition_set import DefinitionSet
from anabranch.encoding import Encoder, partition_of
from anabranch.events import Assignment, AssignmentRequest, ExperimentRecord, Exposure
from anabranch.fields import Event
from anabranch.registry import Registry
from anabranch.settings import RegistrySettings
from schemas.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS, EXPERIMENTS, EXPOSURES
from tests.live.poison import Sent, put, records_of
from tests.live.worker_fixture import Surroundings

PARTITIONS = 4


Status = Literal["draft", "running", "stopped"]


class Document(NamedTuple):
    key: str
    version: int
    status: Status
    definition: Mapping[str, Any]


def experiment(
    key: str, *, version: int = 1, status: Status = "running", **fields: Any
) -> Document:
    variations = [
        {"key": "control", "weight": 5_000},
        {"key": "warm", "weight": 5_000, "params": {"max_output_tokens": 600}},
    ]
    return Document(key, version, status, {"key": key, "variations": variations, **fields})


class Asker:
    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._registry = Registry(RegistrySettings(url=around.service.url))

    def encoded(self, event: Event) -> Sent:
        schema_id = self._registry.id_of(f"{event.TOPIC}-value", event.SCHEMA)
        return Sent(*Encoder(type(event), schema_id).encode(event))

    async def define(self, *documents: Document) -> DefinitionSet:
        """In the definition log; and as the function knows them."""
        records = [
            self.encoded(
                ExperimentRecord(
                    key=document.key,
                    version=document.version,
                    status=document.status,
                    definition=json.dumps(document.definition),
                    changed_by="test",
                )
            )
            for document in documents
        ]
        await put(self._around, records, topic=EXPERIMENTS.name)
        return DefinitionSet.of(documents)

    async def ask(self, requests: Sequence[AssignmentRequest]) -> None:
        """Each in the partition of its unit, in many small record batches."""
        encoder = Encoder(
            AssignmentRequest,
            self._registry.id_of(ASSIGNMENT_REQUESTS.subject, AssignmentRequest.SCHEMA),
        )
        options: dict[str, Any] = {"acks": "all", "max_batch_size": 10_000}
        async with AIOKafkaProducer(
            bootstrap_servers=self._around.kafka.bootstrap, **options
        ) as producer:
            for request in requests:
                key, value = encoder.encode(request)
                await producer.send(
                    *(ASSIGNMENT_REQUESTS.name, value, key),
                    partition=partition_of(key, PARTITIONS),
                )
            await producer.flush()

    async def put(self, records: Sequence[Sent], partition: int = 0) -> list[int]:
        return await put(self._around, records, partition, ASSIGNMENT_REQUESTS.name)

    async def answers(self, prefix: str, topic: str = ASSIGNMENTS.name) -> list[dict[str, Any]]:
        """To the requests whose ids begin so."""
        found = await self._decoded(topic, Assignment)
        return [answer for answer in found if answer["request_id"].startswith(prefix)]

    async def exposures(self, experiment: str) -> list[dict[str, Any]]:
        found = await self._decoded(EXPOSURES.name, Exposure)
        return [exposure for exposure in found if exposure["experiment"] == experiment]

    async def _decoded(self, topic: str, kind: type[Event]) -> list[dict[str, Any]]:
        schema = fastavro.parse_schema(json.loads(kind.SCHEMA))
        found: list[Any] = []
        for record in await records_of(self._around, topic):
            assert record.value is not None
            event: Any = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), schema, None)
            assert record.key == event["unit"].encode()
            assert record.partition == partition_of(record.key, PARTITIONS)
            found.append(event)
        return found


async def make_topic(around: Surroundings, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=around.kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    finally:
        await admin.close()
