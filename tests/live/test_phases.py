"""New weights on a whole path: service, Kafka, worker, ClickHouse. Nobody who was met moves."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx

from service.access import Role
from tests.live.worker_fixture import Surroundings, WorkerProcess

UNITS = [f"phase-unit-{number}" for number in range(600)]


def variations(control: int) -> list[dict[str, Any]]:
    return [{"key": "control", "weight": control}, {"key": "warm", "weight": 10_000 - control}]


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


async def last_phase(http: httpx.AsyncClient, key: str) -> Any:
    return (await http.get(f"/v1/experiments/{key}")).raise_for_status().json()["phases"][-1]


async def test_units_that_were_met_keep_their_variation_when_weights_change(
    around: Surroundings, worker: WorkerProcess
) -> None:
    key = f"phases_{uuid.uuid4().hex[:8]}"
    path = f"/v1/experiments/{key}"
    around.service.wait_ready()
    async with around.service.client(Role.ADMIN) as http:
        body = {"key": key, "variations": variations(5_000)}
        (await http.post("/v1/experiments", json=body)).raise_for_status()
        (await http.post(f"{path}/start")).raise_for_status()
        met = await assigned(http, key, UNITS[:300])
        await stored(around, key, 300)

        opened = await http.patch(path, json={"variations": variations(1_000)})
        assert opened.status_code == 200, opened.text
        assert opened.json()["phases"][-1]["opening"]
        refused = await http.patch(path, json={"variations": variations(2_000)})
        assert refused.status_code == 409
        assert "still opening" in refused.text

        during = await assigned(http, key, UNITS)
        for unit in UNITS[:300]:
            assert during[unit]["variation"] == met[unit]["variation"]
        reasons = {during[unit]["reason"] for unit in UNITS[300:]}
        assert reasons == {"assigned", "phase_opening"}

        async with asyncio.timeout(90):
            while (last := await last_phase(http, key))["opening"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert last["number"] == 2
        assert last["members"] == 300
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


async def test_experiment_made_anew_under_a_key_has_met_nobody(
    around: Surroundings, worker: WorkerProcess
) -> None:
    key = f"anew_{uuid.uuid4().hex[:8]}"
    path = f"/v1/experiments/{key}"
    around.service.wait_ready()
    async with around.service.client(Role.ADMIN) as http:
        body = {"key": key, "variations": variations(5_000)}
        (await http.post("/v1/experiments", json=body)).raise_for_status()
        (await http.post(f"{path}/start")).raise_for_status()
        await assigned(http, key, UNITS[:20])
        await stored(around, key, 20)
        changed = await http.patch(path, json={"variations": variations(4_000)})
        assert changed.json()["phases"][-1]["members"] == 20
        for verb in ("stop", "archive"):
            async with asyncio.timeout(60):  # a phase that opens changes the version meanwhile
                while (await http.post(f"{path}/{verb}")).status_code == 409:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
        (await http.delete(path)).raise_for_status()
        definitions = "/v1/definitions"
        async with asyncio.timeout(30):
            while any(  # noqa: ASYNC110
                one["key"].startswith(f"members:{key}:") and one["status"] != "deleted"
                for one in (await http.get(definitions)).json()["documents"]
            ):
                await asyncio.sleep(0.2)
        again = {"key": key, "variations": [{"key": "warm", "weight": 10_000}]}
        (await http.post("/v1/experiments", json=again)).raise_for_status()
        (await http.post(f"{path}/start", params={"flag": True})).raise_for_status()
        for answer in (await assigned(http, key, UNITS[:20])).values():
            assert (answer["variation"], answer["reason"]) == ("warm", "assigned")
