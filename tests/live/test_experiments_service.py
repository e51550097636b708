"""Assignment in process, on the real service and the real Kafka."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import httpx
import pytest

from anabranch import EmitterSettings, Experiments, RegistrySettings, SyncEmitter
from anabranch.events import ExperimentRecord
from schemas.topics import EXPERIMENTS
from service.access import Role
from service.definition_log import Status
from tests.live.definition_services import append, encoded
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service

VARIATIONS = [
    {"key": "control", "weight": 4_000, "params": {}},
    {"key": "warm", "weight": 6_000, "params": {"tone": "warm"}},
]


async def change(kafka: Broker, key: str, version: int, status: str = "running") -> None:
    record = ExperimentRecord(
        key=key,
        version=version,
        status=cast(Status, status),
        definition=json.dumps({"key": key, "variations": VARIATIONS, "dimensions": ["level"]}),
        changed_by="test",
    )
    await append(kafka.settings, EXPERIMENTS.name, encoded(record))


def until(holds: Callable[[], object], seconds: float = 20.0) -> float:
    """Returns how long it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, "it did not come about in time"
        time.sleep(0.005)
    return time.monotonic() - started


async def test_change_in_the_log_is_in_the_process_in_less_than_a_second(
    kafka: Broker, service: Service, tmp_path: Path
) -> None:
    key, cache = service.keys[Role.EVALUATE], tmp_path / "definitions.json"
    options = EmitterSettings(strict=True)
    registry = RegistrySettings(url=service.url)
    with (
        SyncEmitter(kafka.settings, registry, options) as emitter,
        Experiments.from_url(
            service.url, key, emitter=emitter, cache=cache, poll_seconds=3_600
        ) as experiments,
    ):
        assert experiments.wait(20), experiments.problem
        until(lambda: experiments.streaming)
        for version in range(1, 6):
            await change(kafka, "sdk_door", version)
            took = until(lambda now=version: experiments.assign("sdk_door", "u").version == now)  # type: ignore[misc]
            assert took < 1
        for number in range(100):
            experiments.assign("sdk_door", f"u{number}", {"level": number})
        assert emitter.flush(20) == 0
        assert emitter.counters.delivered == experiments.counters.exposures_logged == 105
        await change(kafka, "sdk_door", 6, "stopped")
        assert until(lambda: not experiments.assign("sdk_door", "u").in_experiment) < 1
        assert experiments.problem is None
    assert b"sdk_door" in cache.read_bytes()


def test_process_and_service_decide_alike(kafka: Broker, service: Service) -> None:
    asyncio.run(change(kafka, "sdk_alike", 1))
    headers = service.headers(Role.EVALUATE)
    with (
        Experiments.from_url(service.url, service.keys[Role.EVALUATE]) as experiments,
        httpx.Client(base_url=service.url, headers=headers) as client,
    ):
        until(lambda: experiments.assign("sdk_alike", "u").version)
        for number in range(50):
            asked = {"unit": f"u{number}", "experiment": "sdk_alike", "log": False}
            theirs = client.post("/v1/assign", json=asked).raise_for_status().json()
            ours = experiments.assign("sdk_alike", f"u{number}")
            assert theirs["variation"] == ours.variation
            assert theirs["params"] == ours.params
            assert theirs["exposure_id"] == ours.exposure_id


@pytest.mark.parametrize(
    ("role", "sentence"),
    [(Role.VIEWER, "may not read definitions: it needs the role evaluate"), (None, "not known")],
)
def test_problem_says_which_key_is_needed(
    service: Service, role: Role | None, sentence: str
) -> None:
    key = "nobody's" if role is None else service.keys[role]
    with Experiments.from_url(service.url, key) as experiments:
        until(lambda: experiments.problem)
        assert sentence in str(experiments.problem)
