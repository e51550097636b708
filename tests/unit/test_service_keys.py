"""API keys over HTTP, on a definition log in memory and a clock of the test's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request

from anabranch.events import AuditEntry
from service.access import CHECKED_WITHIN, Access, Permission, Role, actor_of, needs
from service.access_settings import LimitSettings
from service.api_keys import ApiKeys
from service.audit import Audit
from service.key_routes import key_routes
from service.key_uses import UseCounts
from service.metrics import ServiceMetrics
from service.problems import add_problem_handlers
from service.rate_limits import RateLimits
from sinks.clickhouse import ClickHouseUnavailable
from sinks.key_uses import Use
from tests.unit.document_log import MemoryDocuments

KEYS = {role: f"{role.value}-key-{'x' * 20}" for role in Role}


class Uses:
    """ClickHouse's part, in memory; it can be away."""

    def __init__(self) -> None:
        self.stored: dict[str, Use] = {}
        self.away = False

    async def add(self, uses: Mapping[str, Use]) -> None:
        if self.away:
            raise ClickHouseUnavailable("gone")
        for key, use in uses.items():
            before = self.stored.get(key, Use(use.last_used_at, 0))
            self.stored[key] = Use(use.last_used_at, before.requests + use.requests)

    async def read(self) -> dict[str, Use]:
        if self.away:
            raise ClickHouseUnavailable("gone")
        return dict(self.stored)

    async def close(self) -> None: ...


class House:
    """The routes for keys, and one for each permission, with all that stands behind them."""

    def __init__(self) -> None:
        self.now_ms = int(datetime.now(UTC).timestamp() * 1000)
        self.metrics = ServiceMetrics()
        self.documents = MemoryDocuments()
        self.store = Uses()
        self.uses = UseCounts(self.store, self.metrics)
        self.written: list[AuditEntry] = []
        self.audit = Audit(self._write, self._heads, self.metrics)
        self.keys = ApiKeys(self.documents, self.uses, lambda: self.now_ms)
        access = Access(
            KEYS,
            self.metrics,
            made_keys=self.keys,
            limits=RateLimits(LimitSettings(), self.metrics),
            audit=self.audit,
        )
        router = access.router()
        for permission in Permission:

            @router.get(f"/{permission.value}")
            @needs(permission)
            async def endpoint() -> str:
                return "done"

        @router.get("/v1/experiments/{key}")
        @needs(Permission.VIEW)
        async def experiment(key: str) -> str:
            return key

        @router.get("/of/{name}")
        @needs(Permission.EXPERIMENT, experiment="name")
        async def named(name: str) -> str:
            return name

        @router.post("/assign")
        @needs(Permission.EVALUATE, experiment=CHECKED_WITHIN)
        async def assign(request: Request, experiment: str) -> str:
            access.may(request, Permission.EVALUATE, experiment)
            return actor_of(request)

        @router.get("/features/{client_key}")
        @needs(Permission.PUBLIC)
        async def features(request: Request, client_key: str) -> str:
            access.check_key(request, client_key, Permission.EVALUATE)
            return actor_of(request)

        app = FastAPI()
        app.router.routes.extend(
            [*router.routes, *key_routes(access, self.keys, self.uses, self.audit).routes]
        )
        add_problem_handlers(app)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        )

    async def _write(self, entries: Sequence[AuditEntry]) -> None:
        self.written.extend(entries)

    async def _heads(self) -> Mapping[str, tuple[int, str]]:
        return {}

    async def ask(
        self, method: str, path: str, key: str | None = None, **body: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key or KEYS[Role.ADMIN]}"}
        return await self.http.request(method, path, headers=headers, json=body or None)

    async def make(self, **wanted: Any) -> dict[str, Any]:
        answer = await self.ask("POST", "/v1/keys", name=wanted.pop("name", "ci"), **wanted)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def status(self, path: str, key: str) -> int:
        return (await self.ask("GET", path, key)).status_code


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    made.audit.start()
    yield made
    await made.audit.stop(flush_seconds=1)
    await made.http.aclose()


async def test_key_works_as_its_role_says_and_is_shown_once(house: House) -> None:
    made = await house.make(name="dashboards", role="viewer")
    assert made["key"].startswith(f"ab_{made['id']}_")
    assert await house.status("/view", made["key"]) == 200
    assert await house.status("/emit", made["key"]) == 403
    listed = (await house.ask("GET", "/v1/keys")).text
    one = (await house.ask("GET", f"/v1/keys/{made['id']}")).text
    secret = made["key"].rpartition("_")[2]
    assert secret not in listed + one
    assert "hash" not in listed + one


async def test_secret_is_stored_as_a_hash_alone(house: House) -> None:
    made = await house.make(role="viewer")
    kept = str(house.documents.get(f"api_key:{made['id']}"))
    assert made["key"].split("_", 2)[2] not in kept


@pytest.mark.parametrize("role", ["viewer", "experimenter", "emit", "evaluate"])
async def test_keys_are_for_administrators_alone(house: House, role: str) -> None:
    made = await house.make(role=role)
    for method, path in (
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("DELETE", f"/v1/keys/{made['id']}"),
        ("POST", f"/v1/keys/{made['id']}/rotate"),
    ):
        answer = await house.ask(method, path, made["key"], name="x", role="admin")
        assert answer.status_code == 403


async def test_scopes_take_from_a_role_and_never_add(house: House) -> None:
    made = await house.make(role="experimenter", scopes=["view"])
    assert await house.status("/view", made["key"]) == 200
    answer = await house.ask("GET", "/experiment", made["key"])
    assert answer.status_code == 403
    assert "this needs the scope experiment; this key has view" in answer.json()["detail"]
    beyond = await house.ask("POST", "/v1/keys", name="b", role="viewer", scopes=["emit"])
    assert beyond.status_code == 422
    assert "a key of the role viewer may have view" in beyond.json()["detail"]


async def test_key_for_some_experiments_is_refused_for_others_and_where_none_is_named(
    house: House,
) -> None:
    made = await house.make(role="experimenter", experiments=["npc_", "tone"])
    key = made["key"]
    assert await house.status("/v1/experiments/npc_tone", key) == 200
    assert await house.status("/v1/experiments/hints", key) == 403
    assert await house.status("/of/tone", key) == 200
    assert await house.status("/of/other", key) == 403
    assert await house.status("/view", key) == 403
    assert await house.status("/audit", key) == 403
    assert (await house.ask("POST", "/assign?experiment=npc_1", key)).json() == "ci"
    assert (await house.ask("POST", "/assign?experiment=x", key)).status_code == 403


@pytest.mark.parametrize("role", ["admin", "emit"])
async def test_key_that_could_do_more_than_experiments_cannot_be_limited_to_some(
    house: House, role: str
) -> None:
    answer = await house.ask("POST", "/v1/keys", name="a", role=role, experiments=["npc_"])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["at"] == "body.experiments"


async def test_rotation_lets_both_secrets_work_until_the_overlap_ends(house: House) -> None:
    made = await house.make(role="viewer")
    rotated = await house.ask("POST", f"/v1/keys/{made['id']}/rotate", overlap_seconds=60)
    assert rotated.status_code == 200
    new = rotated.json()["key"]
    assert (await house.status("/view", made["key"]), await house.status("/view", new)) == (
        200,
        200,
    )
    house.now_ms += 60_000
    late = await house.ask("GET", "/view", made["key"])
    assert late.status_code == 401
    assert "its overlap is over" in late.json()["detail"]
    assert await house.status("/view", new) == 200


async def test_rotation_without_overlap_ends_the_secret_before_at_once(house: House) -> None:
    made = await house.make(role="viewer")
    rotated = await house.ask("POST", f"/v1/keys/{made['id']}/rotate", overlap_seconds=0)
    assert await house.status("/view", made["key"]) == 401
    assert await house.status("/view", rotated.json()["key"]) == 200


async def test_second_rotation_does_not_lengthen_the_first_overlap(house: House) -> None:
    made = await house.make(role="viewer")
    await house.ask("POST", f"/v1/keys/{made['id']}/rotate", overlap_seconds=60)
    await house.ask("POST", f"/v1/keys/{made['id']}/rotate", overlap_seconds=6_000)
    house.now_ms += 61_000
    assert await house.status("/view", made["key"]) == 401


async def test_rotation_is_refused_when_too_many_secrets_are_valid(house: House) -> None:
    made = await house.make(role="viewer")
    path = f"/v1/keys/{made['id']}/rotate"
    codes = [(await house.ask("POST", path, overlap_seconds=900)).status_code for _ in range(11)]
    assert codes == [200] * 9 + [409] * 2


async def test_revoked_key_is_refused_at_once_and_for_good(house: House) -> None:
    made = await house.make(role="viewer")
    assert (await house.ask("DELETE", f"/v1/keys/{made['id']}")).status_code == 204
    refused = await house.ask("GET", "/view", made["key"])
    assert refused.status_code == 401
    assert "the key ci was revoked" in refused.json()["detail"]
    for method, path in (("DELETE", ""), ("POST", "/rotate")):
        again = await house.ask(method, f"/v1/keys/{made['id']}{path}")
        assert again.status_code == 409
    assert (await house.ask("GET", "/v1/keys")).json()["keys"] == []
    (kept,) = (await house.ask("GET", "/v1/keys?revoked=true")).json()["keys"]
    assert kept["revoked"]


async def test_key_ends_when_it_expires(house: House) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    made = await house.make(role="viewer", expires_at=end.isoformat())
    assert await house.status("/view", made["key"]) == 200
    house.now_ms += 3_700_000
    answer = await house.ask("GET", "/view", made["key"])
    assert answer.status_code == 401
    assert "the key ci has expired" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        pytest.param({"name": "admin"}, "the name of a role", id="a role's name"),
        pytest.param({"expires_at": "2020-01-01T00:00:00Z"}, "in the past", id="expired"),
        pytest.param({"expires_at": "2090-01-01T00:00:00"}, "timezone", id="no timezone"),
        pytest.param({"expires_at": "9999-12-31T23:59:59-23:59"}, "100 years", id="no end"),
        pytest.param({"experiments": ["a b"]}, "pattern", id="no experiment's key"),
        pytest.param({"name": "a b"}, "pattern", id="a space"),
        pytest.param({"scope": ["view"]}, "scope", id="a misspelt field"),
        pytest.param({"role": "root"}, "experimenter", id="no such role"),
        pytest.param({"experiments": []}, "experiments", id="limited to nothing"),
    ],
)
async def test_key_that_makes_no_sense_is_refused_with_the_reason(
    house: House, wanted: dict[str, Any], said: str
) -> None:
    answer = await house.ask("POST", "/v1/keys", **{"name": "ok", "role": "viewer", **wanted})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


async def test_two_valid_keys_never_have_one_name(house: House) -> None:
    made = await house.make(role="viewer")
    answer = await house.ask("POST", "/v1/keys", name="ci", role="emit")
    assert answer.status_code == 409
    await house.ask("DELETE", f"/v1/keys/{made['id']}")
    await house.make(role="emit")


@pytest.mark.parametrize(
    "token",
    ["ab_", "ab__", "ab_x", "ab_0123456789abcdef_x", "ab_\u00fc_\u00fc", "ab_" + "x" * 5_000],
)
async def test_key_that_was_never_made_is_unknown(house: House, token: str) -> None:
    headers = [(b"Authorization", f"Bearer {token}".encode())]
    answer = await house.http.get("/view", headers=headers)
    assert answer.status_code == 401
    assert "not one of this service" in answer.json()["detail"]


async def test_every_change_of_a_key_is_in_the_audit_log_without_secrets(house: House) -> None:
    made = await house.make(role="viewer")
    rotated = await house.ask("POST", f"/v1/keys/{made['id']}/rotate")
    await house.ask("DELETE", f"/v1/keys/{made['id']}")
    actions = [(entry.actor, entry.action) for entry in house.written]
    assert actions == [
        ("service", "audit.open"),
        ("admin", "key.create"),
        ("admin", "key.rotate"),
        ("admin", "key.revoke"),
    ]
    hashes = [
        kept["hash"]
        for document in house.documents.current.values()
        for kept in document.definition["secrets"]
    ]
    written = str(house.written)
    for secret in (made["key"], rotated.json()["key"], *hashes):
        assert secret.split("_")[-1] not in written


async def test_denied_attempt_with_a_revoked_key_names_the_key(house: House) -> None:
    made = await house.make(role="viewer")
    await house.ask("DELETE", f"/v1/keys/{made['id']}")
    await house.status("/view", made["key"])
    await house.audit.stop(flush_seconds=1)
    denied = house.written[-1]
    assert (denied.actor, denied.action, denied.target) == ("ci", "access.denied", "/view")
    assert json.loads(denied.after or "")["reason"] == "revoked_key"


async def test_key_in_the_path_is_held_to_the_same_and_never_written(house: House) -> None:
    made = await house.make(role="evaluate")
    answer = await house.http.get(f"/features/{made['key']}")
    assert (answer.status_code, answer.json()) == (200, "ci")
    assert (await house.http.get(f"/features/{KEYS[Role.EVALUATE]}")).json() == "evaluate"
    assert (await house.http.get("/features/unknown")).status_code == 401
    assert (await house.http.get(f"/features/{KEYS[Role.VIEWER]}")).status_code == 403
    await house.audit.stop(flush_seconds=1)
    assert [e.target for e in house.written if e.action == "access.denied"] == [
        "/features/{client_key}"
    ] * 2


async def test_last_use_shows_before_and_after_it_was_stored(house: House) -> None:
    made = await house.make(role="viewer")
    path = f"/v1/keys/{made['id']}"
    assert (await house.ask("GET", path)).json()["last_used_at"] is None
    for _ in range(3):
        await house.status("/view", made["key"])
    await house.uses.flush()
    await house.status("/view", made["key"])
    seen = (await house.ask("GET", path)).json()
    assert seen["requests"] == 4
    assert seen["last_used_at"] is not None
    assert house.store.stored[made["id"]].requests == 3


async def test_uses_are_kept_while_clickhouse_is_away_and_the_list_says_so(house: House) -> None:
    made = await house.make(role="viewer")
    house.store.away = True
    for _ in range(3):
        await house.status("/view", made["key"])
        await house.uses.flush()
    listed = (await house.ask("GET", "/v1/keys")).json()
    assert listed["uses_problem"] == "gone"
    assert listed["keys"][0]["requests"] == 3
    house.store.away = False
    await house.uses.flush()
    assert house.store.stored[made["id"]].requests == 3
