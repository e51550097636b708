"""Kafka away: assignments go on, changes are refused, exposures wait, and nothing is lost."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx

from schemas.topics import EXPOSURES
from service.access import Role
from service.settings import TopicSettings
from streams.topic_admin import ensure_topics
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.event_topics import stored_events
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service
from tests.live.test_service_faults import until_waiting_for

KEY = "kafka_away"
VARIATIONS = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]


def service_on(folder: Path, kafka: Broker, clickhouse: ClickHouse) -> Service:
    folder.mkdir(exist_ok=True)
    return Service(
        folder,
        ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=clickhouse.password,
        ANABRANCH_DEFINITIONS__FOLDER=str(folder / "definitions"),
    )


async def assigned(service: Service, unit: str) -> Any:
    async with service.client(Role.EVALUATE) as client:
        answer = await client.post("/v1/assign", json={"unit": unit, "experiment": KEY})
    return answer.raise_for_status().json()


def figure(service: Service, pattern: str) -> float:
    found = re.search(rf"^{pattern} (\S+)$", httpx.get(f"{service.url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def units_logged(kafka: Broker) -> list[bytes]:
    """Of each exposure once: what Kafka may have taken as it went is sent again, as a copy."""
    stored = await stored_events(kafka.settings, EXPOSURES.name)
    return sorted({record.event["event_id"]: record.key for record in stored}.values())


async def test_assignment_goes_on_while_kafka_is_away_and_no_exposure_is_lost(
    own_kafka: Broker, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    await ensure_topics(own_kafka.settings, TopicSettings())
    service = service_on(tmp_path / "service", own_kafka, clickhouse)
    service.start()
    again = service_on(tmp_path / "service", own_kafka, clickhouse)
    try:
        service.wait_ready("kafka", "topics", "schemas", "definitions")
        async with service.client(Role.ADMIN) as client:
            made = await client.post("/v1/experiments", json={"key": KEY, "variations": VARIATIONS})
            assert made.status_code == 201, made.text
            started = await client.post(f"/v1/experiments/{KEY}/start")
            assert started.status_code == 200, started.text
            before = await assigned(service, "before")
            await asyncio.sleep(1.5)  # the snapshot on disk follows a change within a second
            own_kafka.kill()

            waiting = await until_waiting_for(service, "definitions")
            assert re.search(r"1 definitions from \d+ s ago are served", waiting["definitions"])
            for unit in ("before", "meanwhile"):
                found = await assigned(service, unit)
                assert found["reason"] == "assigned"
            assert found["version"] == before["version"]
            refused = await client.patch(f"/v1/experiments/{KEY}", json={"name": "changed"})
            assert refused.status_code == 503, refused.text
            assert figure(service, "anabranch_exposures_waiting") == 2

        # Another process, begun while Kafka is away, has what the disk keeps.
        again.start()
        found = await assigned(again, "meanwhile")
        assert (found["variation"], found["reason"]) == (
            *((await assigned(service, "meanwhile"))["variation"], "assigned"),
        )

        own_kafka.start()
        for one in (service, again):
            one.wait_ready("kafka", "definitions", timeout=60)
        async with asyncio.timeout(60):
            while len(await units_logged(own_kafka)) < 5:
                pass
        assert await units_logged(own_kafka) == [b"before"] * 2 + [b"meanwhile"] * 3
        assert figure(service, "anabranch_exposures_waiting") == 0
        async with service.client(Role.ADMIN) as client:
            changed = await client.patch(f"/v1/experiments/{KEY}", json={"name": "changed"})
        assert changed.status_code == 200, changed.text
    finally:
        service.stop()
        again.stop()
