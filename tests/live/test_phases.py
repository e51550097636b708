"""New weights on a whole path: service, Kafka, worker, ClickHouse. Nobody who was met moves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from anabranch.definition_records import Document
from anabranch.definitions import Definition
from service.access import Role
from service.app import create_app
from service.definition_log import DefinitionLog
from service.phases import Phases
from service.problems import Problem
from service.settings import Settings
from tests.live.worker_fixture import Surroundings, WorkerProcess

KEYS = {role: f"{role.value}-key-{'x' * 20}" for role in Role}
UNITS = [f"phase-unit-{number}" for number in range(600)]


def definition(key: str, control: int) -> Definition:
    variations = [
        {"key": "control", "weight": control},
        {"key": "warm", "weight": 10_000 - control},
    ]
    return Definition.model_validate({"key": key, "variations": variations})


async def assigned(http: httpx.AsyncClient, key: str, units: list[str]) -> dict[str, Any]:
    found = {}
    for unit in units:
        body = {"unit": unit, "experiment": key, "deadline_ms": 60_000}
        found[unit] = (await http.post("/v1/assign", json=body)).json()
    return found


async def stored(around: Surroundings, key: str, wanted: int) -> None:
    async with asyncio.timeout(60):
        while True:
            ((count,),) = around.asked(
                f"SELECT uniqExact(unit) FROM unit_exposures WHERE experiment = '{key}'"
            )
            if int(count) >= wanted:
                return
            await asyncio.sleep(0.2)


async def test_units_that_were_met_keep_their_variation_when_weights_change(
    around: Surroundings, worker: WorkerProcess, tmp_path: Path
) -> None:
    key = f"phases_{tmp_path.name[-6:]}".replace("-", "_")
    settings = Settings(kafka=around.kafka.settings, clickhouse=around.clickhouse.settings)
    app = create_app(settings, KEYS)
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {KEYS[Role.ADMIN]}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers, timeout=60
        ) as http,
    ):
        log: DefinitionLog = app.state.assigning.log
        phases: Phases = app.state.assigning.phases
        content = definition(key, 5_000).model_dump(mode="json")
        begun = await log.change(key, 0, "running", content, "test")

        met = await assigned(http, key, UNITS[:300])
        await stored(around, key, 300)
        opened = await phases.open(begun, definition(key, 1_000), "test")
        assert opened.version == 2
        with pytest.raises(Problem, match="still opening"):
            await phases.open(opened, definition(key, 2_000), "test")

        during = await assigned(http, key, UNITS)
        for unit in UNITS[:300]:
            assert during[unit]["variation"] == met[unit]["variation"]
        reasons = {during[unit]["reason"] for unit in UNITS[300:]}
        assert reasons == {"assigned", "phase_opening"}

        async with asyncio.timeout(90):
            while _last_phase(log.get(key))["opening"]:
                await assigned(http, key, UNITS[:1])
        after = await assigned(http, key, UNITS)
        for unit in UNITS[:300]:
            assert (after[unit]["variation"], after[unit]["reason"]) == (
                *(met[unit]["variation"], "earlier_phase"),
            )
        fresh = [after[unit] for unit in UNITS[300:]]
        assert all(one["in_experiment"] for one in fresh)
        assert sum(one["variation"] == "control" for one in fresh) < 60  # of 300, a tenth
        for unit in UNITS[300:]:
            if during[unit]["in_experiment"]:
                assert after[unit]["variation"] == during[unit]["variation"]
        last = _last_phase(log.get(key))
        assert (last["number"], last["members"]) == (2, 300)


def _last_phase(document: Document | None) -> Any:
    assert document is not None
    return json.loads(document.text)["phases"][-1]
