"""Third-party Avro tools with the service as their registry."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from confluent_kafka import DeserializingConsumer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import (
    MessageField,
    SerializationContext,
    StringDeserializer,
)

from anabranch.events import EVENT_TYPES, Outcome
from tests.live.event_topics import PARTITIONS
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service

SUBJECT = f"{Outcome.TOPIC}-value"


@pytest.fixture
def registry(service: Service) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": service.url}) as client:
        yield client


def test_confluent_client_finds_every_subject_its_versions_and_schemas(
    registry: SchemaRegistryClient,
) -> None:
    assert {f"{event.TOPIC}-value" for event in EVENT_TYPES.values()} <= set(
        registry.get_subjects()
    )
    latest = registry.get_latest_version(SUBJECT)
    assert latest.version in registry.get_versions(SUBJECT)
    assert registry.get_version(SUBJECT, latest.version).schema_id == latest.schema_id
    assert latest.schema_id is not None
    assert registry.get_schema(latest.schema_id).schema_str == latest.schema.schema_str
    assert registry.get_compatibility(SUBJECT) == "BACKWARD_TRANSITIVE"


def test_confluent_client_looks_up_and_registers_what_is_released(
    registry: SchemaRegistryClient,
) -> None:
    given = Schema(json.dumps(json.loads(Outcome.SCHEMA), indent=3), "AVRO")
    released = registry.get_latest_version(SUBJECT)
    assert registry.lookup_schema(SUBJECT, given).schema_id == released.schema_id
    assert registry.register_schema(SUBJECT, given) == released.schema_id
    assert registry.test_compatibility(SUBJECT, given)


def test_confluent_client_is_told_that_the_registry_is_read_only(
    registry: SchemaRegistryClient,
) -> None:
    other = Schema('{"type":"record","name":"Other","fields":[]}', "AVRO")
    with pytest.raises(SchemaRegistryError) as refused:
        registry.register_schema(SUBJECT, other)
    assert (refused.value.http_status_code, refused.value.error_code) == (422, 42205)
    assert not registry.test_compatibility(SUBJECT, other)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        pytest.param("/subjects/none/versions", 404, 40401, id="an unknown subject"),
        pytest.param(f"/subjects/{SUBJECT}/versions/99", 404, 40402, id="an unknown version"),
        pytest.param(f"/subjects/{SUBJECT}/versions/x", 422, 42202, id="no version"),
        pytest.param("/schemas/ids/99999", 404, 40403, id="an unknown id"),
        pytest.param("/config/none", 404, 40401, id="the rule of an unknown subject"),
    ],
)
def test_errors_have_the_form_that_registry_clients_know(
    service: Service, path: str, status: int, code: int
) -> None:
    answer = httpx.get(service.url + path)
    assert answer.status_code == status
    assert answer.json()["error_code"] == code
    assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"


def test_subject_may_be_percent_encoded_and_known_parameters_are_let_through(
    service: Service,
) -> None:
    encoded = SUBJECT.replace("-", "%2D").replace(".", "%2E")
    answer = httpx.get(f"{service.url}/subjects/{encoded}/versions/latest?deleted=true&format=x")
    assert answer.json()["subject"] == SUBJECT
    types = httpx.get(f"{service.url}/schemas/types?fetchMaxId=true")
    assert types.json() == ["AVRO"]


def test_confluent_consumer_reads_what_the_service_wrote(
    service: Service, kafka: Broker, registry: SchemaRegistryClient
) -> None:
    event_id = uuid.uuid4().hex
    event = {"type": "outcome", "unit": "u7", "values": {"cost": 2.5}, "event_id": event_id}
    answer = httpx.post(
        f"{service.url}/v1/events", json={"events": [event]}, headers=service.headers()
    )
    assert answer.json()["accepted"] == 1

    consumer = DeserializingConsumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": event_id,
            "key.deserializer": StringDeserializer(),
            "value.deserializer": AvroDeserializer(registry),
        }
    )
    try:
        consumer.assign([TopicPartition(Outcome.TOPIC, n, 0) for n in range(PARTITIONS)])
        # Its types speak of raw bytes; here they are what the deserializers made of them.
        found: tuple[Any, Any] | None = None
        while found is None:
            message = consumer.poll(10)
            assert message is not None, "the event did not come"
            value: Any = message.value()
            if value["event_id"] == event_id:
                found = message.key(), value
    finally:
        consumer.close()
    assert found[0] == "u7"
    assert found[1]["values"] == [{"name": "cost", "value": 2.5}]


def test_confluent_serializer_writes_with_the_released_id(registry: SchemaRegistryClient) -> None:
    serializer = AvroSerializer(
        registry,
        json.dumps(json.loads(Outcome.SCHEMA)),
        conf={"auto.register.schemas": False},
    )
    event = Outcome(unit="u1", values={"cost": 1.0}).avro()
    written = serializer(event, SerializationContext(Outcome.TOPIC, MessageField.VALUE))
    released = registry.get_latest_version(SUBJECT).schema_id
    assert written is not None
    assert released is not None
    assert written[:5] == b"\0" + released.to_bytes(4, "big")
