"""Experiments from draft to archive on the real service, and what the definition log then holds."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.access import Role
from sinks.migrate import migrate
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.service_fixture import Service


def experiment(key: str, **fields: Any) -> dict[str, Any]:
    variations = [
        {"key": "control", "weight": 5000},
        {"key": "warm", "weight": 5000, "params": {"tone": "warm"}},
    ]
    metrics = {"primary": ["output_tokens"]}
    return {"key": key, "variations": variations, "metrics": metrics, **fields}


def new_key() -> str:
    """The log is shared by all tests."""
    return f"e{uuid.uuid4().hex[:10]}"


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client(Role.EXPERIMENTER) as client:
        yield client


@pytest.fixture
async def admin(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client(Role.ADMIN) as client:
        yield client


async def made(client: httpx.AsyncClient, **fields: Any) -> str:
    """The key of a new draft."""
    key = new_key()
    answer = await client.post("/v1/experiments", json=experiment(key, **fields))
    assert answer.status_code == 201, answer.text
    return key


async def done(client: httpx.AsyncClient, key: str, verb: str, /, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/v1/experiments/{key}/{verb}", json=body)
    assert answer.is_success, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_experiment_goes_from_draft_to_archive_and_its_history_tells_it(
    client: httpx.AsyncClient,
) -> None:
    key = new_key()
    created = await client.post(
        "/v1/experiments", json=experiment(key, name="Tone"), params={"comment": "to be tried"}
    )
    assert created.status_code == 201
    assert created.headers["location"] == f"/v1/experiments/{key}"
    assert created.headers["etag"] == '"1"'
    draft = created.json()
    assert (draft["status"], draft["version"], draft["changed_by"]) == ("draft", 1, "experimenter")
    assert (draft["coverage"], draft["comment"], draft["warnings"]) == (10_000, "to be tried", [])
    assert (await client.get(f"/v1/experiments/{key}")).json() == draft

    renamed = await client.patch(f"/v1/experiments/{key}", json={"name": "Warm tone"})
    assert (renamed.status_code, renamed.json()["version"]) == (200, 2)
    assert (await done(client, key, "start"))["status"] == "running"
    assert (await done(client, key, "stop"))["status"] == "stopped"
    assert (await done(client, key, "archive"))["status"] == "archived"
    assert (await done(client, key, "unarchive"))["status"] == "stopped"
    assert (await done(client, key, "archive"))["version"] == 7
    assert (await client.delete(f"/v1/experiments/{key}")).status_code == 204

    gone = await client.get(f"/v1/experiments/{key}")
    assert gone.status_code == 404
    assert "rollback to version 7 brings it back" in gone.json()["detail"]
    versions = (await client.get(f"/v1/experiments/{key}/history")).json()["versions"]
    statuses = [one["status"] for one in versions]
    assert statuses == [
        *("deleted", "archived", "stopped", "archived", "stopped", "running", "draft", "draft"),
    ]
    assert versions[-1]["comment"] == "to be tried"
    assert versions[-2]["changes"] == [{"place": "name", "before": "Tone", "after": "Warm tone"}]
    page = await client.get(f"/v1/experiments/{key}/history", params={"limit": 3})
    assert [one["version"] for one in page.json()["versions"]] == [8, 7, 6]
    assert page.json()["versions"] == versions[:3]
    rest = await client.get(page.headers["link"].partition(">")[0][1:])
    assert rest.json()["versions"] == versions[3:6]


async def test_change_on_an_old_version_is_refused_with_what_changed_meanwhile(
    client: httpx.AsyncClient,
) -> None:
    key = await made(client, name="First")
    path = f"/v1/experiments/{key}"
    changed = await client.patch(path, json={"name": "Second"}, headers={"If-Match": '"1"'})
    assert changed.status_code == 200
    stale = await client.patch(path, json={"owner": "jo"}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["type"]) == (412, "/problems/precondition-failed")
    assert stale.json()["changes"] == [{"place": "name", "before": "First", "after": "Second"}]
    named = await client.patch(path, json={"owner": "jo", "version": 1})
    assert (named.status_code, named.json()["type"]) == (409, "/problems/conflict")
    assert named.json()["changes"] == stale.json()["changes"]
    fresh = await client.patch(path, json={"owner": "jo"}, headers={"If-Match": '"2"'})
    assert (fresh.status_code, fresh.headers["etag"]) == (200, '"3"')


async def test_one_of_many_changes_at_once_wins_and_the_others_are_told(
    client: httpx.AsyncClient,
) -> None:
    key = await made(client)
    answers = await asyncio.gather(
        *(client.patch(f"/v1/experiments/{key}", json={"name": f"n{i}"}) for i in range(12))
    )
    codes = [answer.status_code for answer in answers]
    assert set(codes) <= {200, 409}
    version = (await client.get(f"/v1/experiments/{key}")).json()["version"]
    assert version == 1 + codes.count(200)
    for answer in answers:
        if answer.status_code == 409:
            assert "make the change on that" in answer.json()["detail"]
            assert [one["place"] for one in answer.json()["changes"]] == ["name"]


async def test_wrong_definition_is_refused_with_every_mistake(client: httpx.AsyncClient) -> None:
    wrong = experiment(new_key(), coverage=10_001, hypotesis="x")
    wrong["variations"][0]["weight"] = 4000
    answer = await client.post("/v1/experiments", json=wrong)
    assert answer.status_code == 422
    problems = {one["place"]: one["problem"] for one in answer.json()["errors"]}
    assert "sum to 9,000" in problems["variations"]
    assert "10000 or less" in problems["coverage"]
    assert "did you mean hypothesis?" in problems["hypotesis"]


@pytest.mark.parametrize(
    ("fields", "status", "limit"),
    [
        pytest.param(
            {"variations": [{"key": f"v{i}", "weight": 10} for i in range(1000)]},
            *(422, "the limit is 100"),
            id="1,000 variations",
        ),
        pytest.param({"params": {"tone": "x" * 250_000}}, 413, "200,000", id="250,000 characters"),
        pytest.param({"params": {"tone": "x" * 1_000_000}}, 413, "200,000", id="1 MB"),
    ],
)
async def test_definition_beyond_a_limit_is_refused_with_the_limit(
    client: httpx.AsyncClient, fields: dict[str, Any], status: int, limit: str
) -> None:
    answer = await client.post("/v1/experiments", json=experiment(new_key(), **fields))
    assert answer.status_code == status
    assert limit in answer.json()["detail"]


async def test_running_experiment_keeps_what_would_move_units(client: httpx.AsyncClient) -> None:
    key = await made(client)
    await done(client, key, "start")
    path = f"/v1/experiments/{key}"
    for patch in ({"seed": "other"}, {"unit": "player"}, {"hash_version": 1}):
        answer = await client.patch(path, json=patch)
        assert answer.status_code == 409
        assert "stop the experiment first, or clone it" in answer.json()["detail"]
    assert (await client.delete(f"{path}/variations/warm")).status_code == 409
    assert (await client.patch(path, json={"coverage": 2500})).status_code == 200
    assert (await client.delete(path)).status_code == 409
    again = await client.post(f"{path}/start")
    assert again.status_code == 409
    assert again.json()["detail"] == f"{key} is running already"


async def test_new_weights_of_a_running_experiment_open_a_phase(
    client: httpx.AsyncClient, clickhouse: ClickHouse
) -> None:
    await migrate(clickhouse.settings)  # who was exposed is asked there
    key = await made(client)
    await done(client, key, "start")
    changed = await client.patch(
        f"/v1/experiments/{key}/variations/warm", json={"weight": 8000}, headers={"If-Match": '"2"'}
    )
    assert changed.status_code == 200, changed.text
    phases = (await client.get(f"/v1/experiments/{key}")).json()["phases"]
    assert [phase["weights"] for phase in phases] == [[5000, 5000], [2000, 8000]]
    assert phases[-1]["opening"]
    again = await client.patch(f"/v1/experiments/{key}/variations/warm", json={"weight": 1})
    assert again.status_code == 409
    assert "still opening" in again.json()["detail"]


async def test_experiment_with_a_start_ahead_is_scheduled_and_starts_by_the_clock(
    client: httpx.AsyncClient,
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    key = await made(client, starts_at=soon.isoformat())
    assert (await done(client, key, "start"))["status"] == "scheduled"
    async with asyncio.timeout(10):
        status = "scheduled"
        while status == "scheduled":
            await asyncio.sleep(0.1)
            status = (await client.get(f"/v1/experiments/{key}")).json()["status"]
    assert status == "running"
    assert datetime.now(UTC) >= soon
    assert (await done(client, key, "stop"))["status"] == "stopped"
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert (await done(client, key, "schedule", starts_at=later))["status"] == "scheduled"
    assert (await done(client, key, "start"))["status"] == "running"


async def test_rollback_brings_back_what_an_earlier_version_said(
    client: httpx.AsyncClient,
) -> None:
    key = await made(client, name="Good", owner="jo")
    path = f"/v1/experiments/{key}"
    await client.patch(path, json={"name": "Bad", "owner": None, "coverage": 1})
    back = await done(client, key, "rollback", to_version=1)
    assert (back["name"], back["owner"], back["coverage"]) == ("Good", "jo", 10_000)
    assert (back["version"], back["comment"]) == (3, "back to version 1")
    missing = await client.post(f"{path}/rollback", json={"to_version": 17})
    assert missing.status_code == 404
    assert (await client.delete(path)).status_code == 204
    assert (await done(client, key, "rollback", to_version=2))["status"] == "draft"


async def test_clone_is_a_draft_of_its_own(client: httpx.AsyncClient) -> None:
    key, other = await made(client, seed="old", name="Tone"), new_key()
    await done(client, key, "start")
    clone = await done(client, key, "clone", key=other)
    assert (clone["key"], clone["status"], clone["version"]) == (other, "draft", 1)
    assert (clone["seed"], clone["name"], clone["comment"]) == (None, "Tone", f"cloned from {key}")
    twice = await client.post(f"/v1/experiments/{key}/clone", json={"key": other})
    assert twice.status_code == 409


async def test_variations_are_added_changed_and_removed_and_weights_follow(
    client: httpx.AsyncClient,
) -> None:
    key = await made(client)
    path = f"/v1/experiments/{key}/variations"
    added = await client.post(path, json={"key": "warmest", "weight": 2000})
    assert (added.status_code, added.json()["key"]) == (201, "warmest")
    assert (await weights(client, path)) == {"control": 4000, "warm": 4000, "warmest": 2000}
    changed = await client.patch(f"{path}/warm", json={"weight": 6000, "params": {"tone": None}})
    assert changed.json()["params"] == {}
    assert (await weights(client, path)) == {"control": 2667, "warm": 6000, "warmest": 1333}
    assert (await client.delete(f"{path}/warm")).status_code == 204
    assert (await weights(client, path)) == {"control": 6668, "warmest": 3332}
    strict = await client.patch(
        f"{path}/control", json={"weight": 1}, params={"rebalance": "false"}
    )
    assert strict.status_code == 422
    assert "sum to 3,333" in strict.text
    assert (await client.patch(f"{path}/none", json={})).status_code == 404


async def weights(client: httpx.AsyncClient, path: str) -> dict[str, int]:
    variations = (await client.get(path)).json()["variations"]
    return {one["key"]: one["weight"] for one in variations}


async def test_list_is_filtered_sorted_and_paged(client: httpx.AsyncClient) -> None:
    tag = new_key()
    keys = [await made(client, tags=[tag], name=f"Name {9 - i}", owner="jo") for i in range(5)]
    await done(client, keys[0], "start")

    async def listed(**query: Any) -> list[str]:
        answer = await client.get("/v1/experiments", params={"tag": tag, **query})
        assert answer.status_code == 200, answer.text
        return [one["key"] for one in answer.json()["experiments"]]

    assert await listed() == sorted(keys)
    assert await listed(sort="name") == keys[::-1]
    assert await listed(sort="-name") == keys
    assert (await listed(sort="-changed_at"))[0] == keys[0]
    assert await listed(status="running") == [keys[0]]
    assert await listed(text="NAME 7") == [keys[2]]
    assert await listed(owner="nobody") == []

    query = {"tag": tag, "limit": "2", "sort": "name"}
    seen, url = [], str(httpx.URL("/v1/experiments", params=query))
    while url:
        answer = await client.get(url)
        assert answer.json()["total"] == 5
        seen += [one["key"] for one in answer.json()["experiments"]]
        url = answer.headers.get("link", "").partition(">")[0][1:]
    assert seen == keys[::-1]
    whole = await client.get("/v1/experiments", params={"tag": tag})
    again = await client.get(
        "/v1/experiments", params={"tag": tag}, headers={"If-None-Match": whole.headers["etag"]}
    )
    assert again.status_code == 304
    wrong = await client.get("/v1/experiments", params={"cursor": "abc"})
    assert wrong.status_code == 422


async def test_viewer_reads_and_changes_nothing(
    service: Service, client: httpx.AsyncClient
) -> None:
    key = await made(client)
    async with service.client(Role.VIEWER) as viewer:
        assert (await viewer.get(f"/v1/experiments/{key}")).status_code == 200
        assert (await viewer.post(f"/v1/experiments/{key}/start")).status_code == 403
        assert (await viewer.patch("/v1/limits", json={"limits": {}})).status_code == 403


async def test_prerequisites_that_go_round_in_a_circle_are_refused_with_the_circle(
    client: httpx.AsyncClient,
) -> None:
    first = await made(client)
    second = await made(client, prerequisites=[{"experiment": first, "variations": ["warm"]}])
    answer = await client.patch(
        f"/v1/experiments/{first}",
        json={"prerequisites": [{"experiment": second, "variations": ["warm"]}]},
    )
    assert answer.status_code == 422
    assert f"{first} needs {second} needs {first}" in answer.json()["detail"]
    used = await client.delete(f"/v1/experiments/{first}")
    assert used.status_code == 409
    assert f"a prerequisite of {second}" in used.json()["detail"]


async def test_what_experiments_name_has_to_be_there_and_stays_while_they_name_it(
    admin: httpx.AsyncClient,
) -> None:
    holdout, key = new_key(), new_key()
    missing = await admin.post("/v1/experiments", json=experiment(key, holdout=holdout))
    assert missing.status_code == 422
    assert missing.json()["errors"][0]["place"] == "holdout"
    made_ = await admin.post("/v1/holdouts", json={"key": holdout, "share": 500})
    assert (made_.status_code, made_.json()["unit"]) == (201, "player")
    created = await admin.post("/v1/experiments", json=experiment(key, holdout=holdout))
    assert created.status_code == 201
    refused = await admin.delete(f"/v1/holdouts/{holdout}")
    assert refused.status_code == 409
    assert key in refused.json()["detail"]
    changed = await admin.patch(
        f"/v1/holdouts/{holdout}", json={"share": 600}, headers={"If-Match": '"1"'}
    )
    assert (changed.json()["share"], changed.headers["etag"]) == (600, '"2"')
    await admin.patch(f"/v1/experiments/{key}", json={"holdout": None})
    assert (await admin.delete(f"/v1/holdouts/{holdout}")).status_code == 204
    assert (await admin.get(f"/v1/holdouts/{holdout}")).status_code == 404


async def test_metric_catalogue_has_the_built_in_ones_and_takes_others(
    client: httpx.AsyncClient,
) -> None:
    listed = (await client.get("/v1/metrics")).json()
    built_in = {one["key"] for one in listed["metrics"] if one["built_in"]}
    assert {"turn_ms", "exposures", "invites_joined"} <= built_in
    refused = await client.patch("/v1/metrics/turn_ms", json={"direction": "up"})
    assert refused.status_code == 409
    metric, key = new_key(), await made(client, metrics={"primary": ["unheard_of"]})
    shown = (await client.get(f"/v1/experiments/{key}")).json()
    assert shown["warnings"][0]["place"] == "metrics.primary.0"
    created = await client.post(
        "/v1/metrics",
        json={
            "key": metric,
            "kind": "ratio",
            "numerator": {"outcome": "revenue"},
            "denominator": {"turn": "turn_ms"},
            "cap": {"percentile": 0.99},
        },
    )
    assert created.status_code == 201, created.text
    named = await client.patch(f"/v1/experiments/{key}", json={"metrics": {"primary": [metric]}})
    assert named.json()["warnings"] == []
    assert (await client.delete(f"/v1/metrics/{metric}")).status_code == 409
    wrong = await client.post("/v1/metrics", json={"key": new_key(), "kind": "quantile"})
    assert wrong.status_code == 422
    assert "needs source" in wrong.text


async def test_limits_of_the_installation_clamp_and_the_experiment_warns(
    admin: httpx.AsyncClient,
) -> None:
    key = await made(admin, params={"max_choices": 7, "unknown_one": 1})
    name = {"type": "integer", "minimum": 0, "maximum": 5}
    changed = await admin.patch("/v1/limits", json={"limits": {"max_choices": name}})
    assert changed.status_code == 200
    assert changed.json()["limits"]["max_choices"]["maximum"] == 5
    warnings = (await admin.get(f"/v1/experiments/{key}")).json()["warnings"]
    assert {one["place"] for one in warnings} == {"params.max_choices", "params.unknown_one"}
    back = await admin.patch("/v1/limits", json={"limits": {"max_choices": None}})
    assert back.json()["limits"]["max_choices"]["maximum"] == 8
    assert "max_choices" not in back.json()["own"]


async def test_apply_checks_all_before_it_changes_any(admin: httpx.AsyncClient) -> None:
    first, second, holdout = new_key(), new_key(), new_key()
    needs = [{"experiment": first, "variations": ["warm"]}]
    documents = [
        experiment(second, prerequisites=needs),
        experiment(first, holdout=holdout),
        {"kind": "holdout", "key": holdout, "share": 100},
        {"kind": "mean", "key": new_key(), "source": {"outcome": "revenue"}},
    ]
    broken = [*documents, {"kind": "group", "values": [1]}, experiment(new_key(), coverage=-1)]
    wrong = await admin.post("/v1/apply", json={"documents": broken})
    assert wrong.status_code == 422
    places = [one["place"] for one in wrong.json()["errors"]]
    assert places == ["documents.4.key", "documents.5.coverage"]
    assert (await admin.get(f"/v1/holdouts/{holdout}")).status_code == 404

    looked = await admin.post("/v1/apply", json={"documents": documents}, params={"dry_run": True})
    assert looked.status_code == 200, looked.text
    assert {one["action"] for one in looked.json()["applied"]} == {"create"}
    assert (await admin.get(f"/v1/experiments/{first}")).status_code == 404
    applied = await admin.post("/v1/apply", json={"documents": documents})
    assert [one["kind"] for one in applied.json()["applied"]] == [
        *("holdout", "metric", "experiment", "experiment"),
    ]
    again = await admin.post("/v1/apply", json={"documents": documents})
    assert {one["action"] for one in again.json()["applied"]} == {"same"}

    documents[1]["coverage"] = 10
    versions = {f"experiment {first}": 3}
    stale = await admin.post("/v1/apply", json={"documents": documents, "versions": versions})
    assert stale.status_code == 409
    changed = (await admin.post("/v1/apply", json={"documents": documents})).json()["applied"]
    assert [one["changes"] for one in changed if one["action"] == "change"] == [
        [{"place": "coverage", "before": 10_000, "after": 10}]
    ]
