from __future__ import annotations

import pytest

from schemas.releases import releases
from service.event_reading import ACCEPTED
from service.schema_catalogue import Catalogue
from service.schema_ids import SchemaIds, is_own_address
from service.settings import Settings


def settings(registry: str, host: str = "127.0.0.1", port: int = 8080) -> Settings:
    return Settings.model_validate(
        {"registry": {"url": registry}, "service": {"host": host, "port": port}}
    )


@pytest.mark.parametrize(
    ("registry", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1"),
        ("http://localhost:8080/", "127.0.0.1"),
        ("http://127.0.0.1:8080", "0.0.0.0"),
        ("http://events.example:8080", "events.example"),
    ],
)
def test_is_own_address_knows_the_service_by_its_names(registry: str, host: str) -> None:
    assert is_own_address(settings(registry, host))


@pytest.mark.parametrize(
    ("registry", "host"),
    [
        ("http://127.0.0.1:8081", "127.0.0.1"),
        ("http://registry:8080", "0.0.0.0"),
        ("https://registry.example", "127.0.0.1"),
    ],
)
def test_is_own_address_takes_no_other_registry_for_it(registry: str, host: str) -> None:
    assert not is_own_address(settings(registry, host))


def test_is_own_address_when_no_registry_is_named_whatever_the_port() -> None:
    assert is_own_address(Settings.model_validate({"service": {"port": 9000}}))


async def test_ids_come_from_the_releases_when_the_service_is_the_registry() -> None:
    ids = SchemaIds(ACCEPTED.values(), Catalogue(releases()), settings("http://127.0.0.1:8080"))
    assert await ids.check() is None
    assert ids.of_topic is not None
    released = {(release.subject, release.id) for release in releases()}
    assert {(f"{topic}-value", number) for topic, number in ids.of_topic.items()} <= released


def test_ids_wait_for_another_registry() -> None:
    ids = SchemaIds(ACCEPTED.values(), Catalogue(releases()), settings("http://registry:8081"))
    assert ids.of_topic is None
