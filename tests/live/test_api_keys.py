"""API keys from their making to their end, on the real definition log and the real audit log."""

from __future__ import annotations

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest_asyncio
import uvicorn
from fastapi import FastAPI

from deploy.ports import choose_port
from service.access import Role
from service.app import create_app
from service.settings import Settings
from tests.live.definition_services import make_log
from tests.live.stack_fixture import anabranch
from tests.live.worker_fixture import Surroundings, WorkerProcess

KEYS = {role: f"{role.value}-key-{'x' * 20}" for role in Role}


class Instance(NamedTuple):
    """One of the service, in this process: its application, started."""

    http: httpx.AsyncClient
    app: FastAPI

    async def ask(
        self, method: str, path: str, key: str | None = None, **body: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key or KEYS[Role.ADMIN]}"}
        return await self.http.request(method, path, headers=headers, json=body or None)

    async def status(self, key: str) -> int:
        return (await self.ask("GET", "/v1/audit", key)).status_code


@asynccontextmanager
async def instance(around: Surroundings, topic: str) -> AsyncIterator[Instance]:
    settings = Settings(kafka=around.kafka.settings, clickhouse=around.clickhouse.settings)
    app: FastAPI = create_app(settings, KEYS, definitions_topic=topic)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60
        ) as http,
    ):
        yield Instance(http, app)


@pytest_asyncio.fixture
async def topic(around: Surroundings) -> str:
    name = f"keys-{uuid.uuid4().hex[:8]}.v1"
    await make_log(around.kafka.settings, name)
    return name


async def eventually(holds: Any, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  what another process does
            await asyncio.sleep(0.05)


async def test_key_is_made_used_rotated_and_revoked_and_each_step_is_in_the_audit_log(
    around: Surroundings, worker: WorkerProcess, topic: str
) -> None:
    async with instance(around, topic) as one, instance(around, topic) as other:
        name = f"ci-{uuid.uuid4().hex[:8]}"
        answer = await one.ask("POST", "/v1/keys", name=name, role="experimenter")
        assert answer.status_code == 201, answer.text
        made = answer.json()
        path = f"/v1/keys/{made['id']}"

        async def works_there() -> bool:
            return await other.status(made["key"]) == 200

        assert await one.status(made["key"]) == 200
        await eventually(works_there, 5)

        rotated = await one.ask("POST", f"{path}/rotate", overlap_seconds=60)
        new = rotated.json()["key"]
        assert (await one.status(made["key"]), await one.status(new)) == (200, 200)

        assert (await one.ask("DELETE", path)).status_code == 204
        assert (await one.status(made["key"]), await one.status(new)) == (401, 401)

        async def refused_there() -> bool:
            return await other.status(new) == 401

        await eventually(refused_there, 5)
        (kept,) = (await other.ask("GET", "/v1/keys?revoked=true")).json()["keys"]
        assert (kept["name"], kept["revoked"]) == (name, True)
        assert kept["last_used_at"] is not None

        async def audited() -> list[dict[str, Any]]:
            wanted = f"/v1/audit?target=api_key:{made['id']}"
            entries: list[dict[str, Any]] = (await one.ask("GET", wanted)).json()["entries"]
            return entries

        async def all_there() -> bool:
            return len(await audited()) == 3

        await eventually(all_there)
        entries = await audited()
        assert [entry["action"] for entry in entries] == ["key.revoke", "key.rotate", "key.create"]
        assert {entry["actor"] for entry in entries} == {"admin"}
        assert entries[1]["before"]["name"] == name
        for secret in (made["key"], new):
            assert secret.split("_", 2)[2] not in json.dumps(entries)
        denied = (await one.ask("GET", f"/v1/audit?actor={name}")).json()["entries"]
        assert {entry["after"]["reason"] for entry in denied} <= {"revoked_key"}


async def test_keys_and_their_uses_are_there_after_a_restart(
    around: Surroundings, topic: str
) -> None:
    async with instance(around, topic) as before:
        made = (await before.ask("POST", "/v1/keys", name="kept", role="experimenter")).json()
        for _ in range(3):
            assert await before.status(made["key"]) == 200
    async with instance(around, topic) as after:
        assert await after.status(made["key"]) == 200
        (seen,) = (await after.ask("GET", "/v1/keys")).json()["keys"]
        assert (seen["name"], seen["requests"]) == ("kept", 4)


async def test_rotations_at_once_leave_every_secret_that_was_shown_working(
    around: Surroundings, topic: str
) -> None:
    async with instance(around, topic) as one, instance(around, topic) as other:
        made = (await one.ask("POST", "/v1/keys", name="both", role="viewer")).json()
        path = f"/v1/keys/{made['id']}/rotate"

        async def known_there() -> bool:
            return (await other.ask("GET", f"/v1/keys/{made['id']}")).status_code == 200

        await eventually(known_there, 5)
        answers = await asyncio.gather(*(i.ask("POST", path) for i in (one, other) * 3))
        codes = [answer.status_code for answer in answers]
        assert set(codes) <= {200, 409}
        assert 200 in codes
        good = [answer.json()["key"] for answer in answers if answer.status_code == 200]
        for key in (made["key"], *good):
            assert (await one.ask("GET", "/v1/audit", key)).status_code == 403  # known: a viewer


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """For commands, which come from another process."""
    port = choose_port("127.0.0.1", 0, flag="port")
    config = uvicorn.Config(app, port=port, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    await eventually(started)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def test_commands_make_list_rotate_and_revoke_a_key(
    around: Surroundings, topic: str, tmp_path: Path
) -> None:
    (tmp_path / "credentials.json").write_text(json.dumps({"admin": KEYS[Role.ADMIN]}))
    async with instance(around, topic) as one, listening(one.app) as url:

        async def keys(*arguments: str, url: str = url) -> subprocess.CompletedProcess[str]:
            options = ("--url", url, "--state", str(tmp_path))
            return await asyncio.to_thread(anabranch, "keys", *arguments, *options)

        made = await keys("create", "nightly", "experimenter", "--scope", "audit", "--days", "1")
        assert made.returncode == 0, made.stderr
        first = made.stdout.strip()
        assert await one.status(first) == 200
        assert "may audit; it is not shown again" in made.stderr
        (listed,) = json.loads((await keys("list", "--json")).stdout)["keys"]
        assert (listed["name"], listed["scopes"], listed["requests"]) == ("nightly", ["audit"], 1)
        assert "nightly" in (await keys("list")).stdout
        second = (await keys("rotate", "nightly", "--overlap", "0")).stdout.strip()
        assert (await one.status(first), await one.status(second)) == (401, 200)
        assert (await keys("revoke", "nightly")).returncode == 0
        assert await one.status(second) == 401
        for arguments, said in (
            (("revoke", "nightly"), "there is no valid key 'nightly'; there are: none"),
            (("create", "admin", "viewer"), "the name of a role"),
            (("create", "a", "viewer", "--scope", "emit"), "may have view"),
        ):
            answer = await keys(*arguments)
            assert (answer.returncode, said in answer.stderr) == (1, True), answer.stderr
        away = await keys("list", url="http://127.0.0.1:9")
        assert "does not answer" in away.stderr
