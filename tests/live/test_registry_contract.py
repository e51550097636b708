"""The SDK's registry client against a real registry over HTTP: the service's own."""

from __future__ import annotations

import json

import pytest

from anabranch.events import RECORD_TYPES
from anabranch.registry import (
    Registered,
    Registry,
    RegistryUnavailableError,
    SchemaRefusedError,
    UnknownSchemaError,
)
from anabranch.settings import RegistrySettings
from schemas.releases import releases
from tests.live.service_fixture import Service


@pytest.fixture
def registry(service: Service) -> Registry:
    return Registry(RegistrySettings(url=service.url))


def test_every_event_has_its_id_and_the_id_its_schema(registry: Registry) -> None:
    for event in RECORD_TYPES:
        subject = f"{event.TOPIC}-value"
        schema_id = registry.id_of(subject, event.SCHEMA)
        assert registry.register(subject, event.SCHEMA) == schema_id
        assert json.loads(registry.schema(schema_id)) == json.loads(event.SCHEMA)


def test_latest_and_versions_are_those_released(registry: Registry) -> None:
    release = releases()[0]
    assert registry.versions(release.subject) == [1]
    assert registry.latest(release.subject) == Registered(*release)


def test_compatible_tells_a_breaking_schema_from_a_good_one(registry: Registry) -> None:
    event = RECORD_TYPES[0]
    subject = f"{event.TOPIC}-value"
    broken = json.loads(event.SCHEMA)
    broken["fields"][0]["type"] = "int"
    assert registry.compatible(subject, event.SCHEMA)
    assert not registry.compatible(subject, json.dumps(broken))
    with pytest.raises(SchemaRefusedError, match="read-only"):
        registry.register(subject, json.dumps(broken))


def test_unknown_id_and_subject_are_told_apart_from_an_absent_registry(registry: Registry) -> None:
    with pytest.raises(UnknownSchemaError, match="99999"):
        registry.schema(99_999)
    with pytest.raises(UnknownSchemaError, match="nope"):
        registry.versions("nope")
    absent = Registry(RegistrySettings(url="http://127.0.0.1:1", timeout_seconds=1))
    with pytest.raises(RegistryUnavailableError, match="refused"):
        absent.schema(1)
