"""The audit log's way: from a denied request or a change to Kafka, ClickHouse and people."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from anabranch.fields import milliseconds
from service.access import Role
from service.audit_verification import ChainWalk
from service.settings import TopicSettings
from streams.topic_admin import ensure_topics
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.event_topics import stored_events
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service
from tests.live.stack_fixture import anabranch
from tests.live.test_service_faults import until, until_waiting_for
from tests.live.worker_fixture import Surroundings, WorkerProcess, wait_until


def audited(
    around: Surroundings, wanted: Mapping[str, str] | None = None, role: Role = Role.ADMIN
) -> httpx.Response:
    return httpx.get(
        f"{around.service.url}/v1/audit",
        params=dict(wanted or {}),
        headers=around.service.headers(role),
        timeout=30,
    )


def entries(around: Surroundings, **wanted: str) -> list[dict[str, Any]]:
    answer = audited(around, wanted)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def denied(around: Surroundings, path: str = "/v1/stats", role: Role = Role.EMIT) -> str:
    """The id of a request that was refused."""
    mark = f"denied-{secrets.token_hex(8)}"
    headers = {**around.service.headers(role), "X-Request-Id": mark}
    assert httpx.get(f"{around.service.url}{path}", headers=headers).status_code == 403
    return mark


def wait_stored(around: Surroundings, mark: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [entry for entry in entries(around) if entry["request_id"] == mark]

    wait_until(lambda: bool(found()), 60)
    (entry,) = found()
    return entry


def verified(around: Surroundings, *options: str) -> subprocess.CompletedProcess[str]:
    return anabranch("audit", "verify", *options, environment=around.environment)


def test_denied_attempt_shows_once_in_clickhouse_and_over_http(
    around: Surroundings, worker: WorkerProcess
) -> None:
    mark = denied(around)
    entry = wait_stored(around, mark)
    assert (entry["actor"], entry["action"]) == ("emit", "access.denied")
    assert entry["target"] == "/v1/stats"
    assert entry["before"] is None
    expected = {"reason": "role", "needs": "view", "role": "emit", "method": "GET"}
    assert entry["after"].items() >= expected.items()
    rows = "SELECT count(), uniqExact(_offset) FROM audit_log WHERE request_id = {mark:String}"
    assert around.asked(rows, mark=mark) == [[1, 1]]


def test_audit_log_is_for_those_who_decide(around: Surroundings, worker: WorkerProcess) -> None:
    codes = {role: audited(around, role=role).status_code for role in Role}
    assert codes == {
        Role.ADMIN: 200,
        Role.EXPERIMENTER: 200,
        Role.VIEWER: 403,
        Role.EMIT: 403,
        Role.EVALUATE: 403,
    }


def test_pages_hold_each_entry_once_the_newest_first(
    around: Surroundings, worker: WorkerProcess
) -> None:
    marks = [denied(around) for _ in range(5)]
    wait_stored(around, marks[-1])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        wanted = {"actor": "emit", "limit": "2", **({"cursor": cursor} if cursor else {})}
        page = audited(around, wanted).json()
        assert len(page["entries"]) <= 2
        seen += [entry["request_id"] for entry in page["entries"]]
        cursor = page["next_cursor"]
    assert [mark for mark in seen if mark in marks] == marks[::-1]
    assert len(set(seen)) == len(seen)


def test_filters_find_what_they_say(around: Surroundings, worker: WorkerProcess) -> None:
    mark = denied(around, "/v1/freshness", Role.EVALUATE)
    entry = wait_stored(around, mark)

    def finds(**wanted: str) -> bool:
        return any(found["request_id"] == mark for found in entries(around, **wanted))

    ts = entry["ts"]
    assert finds(actor="evaluate", target="/v1/freshness", action="access.denied")
    assert finds(action="access.*", to="2290-01-01T00:00:00Z")
    assert finds(**{"from": ts})
    assert not finds(to=ts)
    assert not finds(action="key.*")
    assert not finds(action="access.d")
    for odd in ("\\", "'", "\t\n", "{x:String}", "%", "zoë", "\x00"):
        assert not finds(target=odd)


@pytest.mark.parametrize(
    "wanted",
    [
        {"from": "yesterday"},
        {"from": "2026-01-01T00:00:00"},
        {"cursor": "x"},
        {"cursor": "9" * 30},
        {"limit": "0"},
        {"limit": "501"},
    ],
)
def test_filter_that_makes_no_sense_is_refused(
    around: Surroundings, wanted: dict[str, str]
) -> None:
    assert audited(around, wanted).status_code == 422


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_filter_at_the_ends_of_time_is_answered(
    around: Surroundings, worker: WorkerProcess, at: str
) -> None:
    assert audited(around, {"from": at, "to": at}).status_code == 200


@pytest.fixture
def tampered(around: Surroundings, worker: WorkerProcess) -> Iterator[dict[str, Any]]:
    """An entry with another actor than it was written with, until the test ends."""
    entry = wait_stored(around, denied(around))
    change = (
        "ALTER TABLE audit_log UPDATE actor = {actor:String} WHERE event_id = {event:String} "
        "SETTINGS mutations_sync = 2"
    )
    around.asked(change, actor="somebody", event=entry["event_id"])
    yield entry
    around.asked(change, actor=entry["actor"], event=entry["event_id"])


def test_verify_finds_nothing_in_a_log_that_nobody_touched(
    around: Surroundings, worker: WorkerProcess, tmp_path: Path
) -> None:
    wait_stored(around, denied(around))
    answer = verified(around, "--json")
    said = json.loads(answer.stdout)
    assert (answer.returncode, said["intact"], said["total"]) == (0, True, 0), answer.stdout
    assert said["entries"] >= 2
    kept = tmp_path / "heads.json"
    kept.write_text(answer.stdout)
    assert verified(around, "--against", str(kept)).returncode == 0
    said["heads"]["never"] = {"sequence": 3, "hash": "x"}
    kept.write_text(json.dumps(said))
    missing = verified(around, "--against", str(kept))
    assert missing.returncode == 1
    assert f"chain never, entry 3: it is missing, and {kept} has seen it" in missing.stdout
    kept.write_text("[]")
    assert (
        "is not what `anabranch audit verify --json` prints"
        in verified(around, "--against", str(kept)).stderr
    )


def test_verify_names_the_entry_that_somebody_changed(
    around: Surroundings, tampered: dict[str, Any]
) -> None:
    answer = verified(around)
    assert answer.returncode == 1
    assert "it was changed" in answer.stdout
    assert f"event {tampered['event_id']}" in answer.stdout
    (breach,) = json.loads(verified(around, "--json").stdout)["breaches"]
    assert (breach["chain"], breach["sequence"]) == (tampered["chain"], tampered["sequence"])


async def test_entries_wait_for_kafka_and_come_in_order_when_it_is_back(
    own_kafka: Broker, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    await ensure_topics(own_kafka.settings, TopicSettings())
    service = Service(
        tmp_path,
        ANABRANCH_KAFKA__BOOTSTRAP=own_kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=clickhouse.password,
        ANABRANCH_SERVICE__PRODUCE_TIMEOUT_SECONDS="1",
    )
    await asyncio.to_thread(service.start)
    try:
        await asyncio.to_thread(service.wait_ready, "kafka", "topics")
        async with service.client(Role.VIEWER) as client:
            await asyncio.to_thread(own_kafka.kill)
            asked = [(await client.get("/v1/keys" if n else "/v1/audit")) for n in range(6)]
            assert {answer.status_code for answer in asked} <= {403, 404}
            waiting = await until_waiting_for(service, "audit")
            assert "entries wait for Kafka" in waiting["audit"]
            await asyncio.to_thread(own_kafka.start)

            def ready() -> bool:
                answer = httpx.get(f"{service.url}/readyz", params={"only": "audit"})
                return answer.status_code == 200

            await until(ready, seconds=60)
    finally:
        await asyncio.to_thread(service.stop)
    walk = ChainWalk()
    stored = await stored_events(own_kafka.settings, "audit.v1")
    for offset, found in enumerate(stored):
        walk.add(offset, {**found.event, "ts": milliseconds(found.event["ts"])})
    walk.finish()
    assert walk.breaches == []
    denied_paths = [s.event["target"] for s in stored if s.event["action"] == "access.denied"]
    assert "/v1/audit" in denied_paths
