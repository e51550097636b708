"""Figures of ingestion over HTTP, from the work of a real stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from service.access import Role
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service
from tests.live.stack_fixture import WholeStack, anabranch, eventually

TOPICS = ["exposures.v1", "turn-metrics.v1", "invites.v1", "outcomes.v1"]


def ask(stack: WholeStack, path: str, role: str = "viewer") -> httpx.Response:
    key = json.loads((stack.state / "credentials.json").read_text())[role]
    url = stack.record["service"] + path
    return httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


def stats(stack: WholeStack) -> dict[str, Any]:
    answer = ask(stack, "/v1/stats")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_stats_and_freshness_follow_what_was_emitted(stack: WholeStack) -> None:
    before = stats(stack)
    assert [topic["topic"] for topic in before["topics"]] == TOPICS
    sent = anabranch("simulate", "--state", stack.state, "--rate", "2000", "--events", "3000")
    assert sent.returncode == 0, sent.stderr
    eventually(lambda: stats(stack)["stored"] == before["stored"] + 3000)
    eventually(lambda: stats(stack)["pending"] == 0)
    now = stats(stack)
    assert now["kafka_problem"] is None
    assert now["dead"] == before["dead"]
    assert now["events_per_second"] >= 3000 / 61
    for topic in now["topics"]:
        assert len(topic["partitions"]) == 4
        for partition in topic["partitions"]:
            assert partition["applied_offset"] == partition["end_offset"] - 1
    fresh = ask(stack, "/v1/freshness").json()
    assert fresh["lag_seconds"] == 0.0
    assert fresh["pending"] == 0
    assert [topic["topic"] for topic in fresh["topics"]] == TOPICS
    assert fresh["watermark"] == max(topic["watermark"] for topic in fresh["topics"])


def test_stats_need_the_permission_to_view(stack: WholeStack) -> None:
    assert ask(stack, "/v1/stats", role="emit").status_code == 403
    assert ask(stack, "/v1/freshness", role="evaluate").status_code == 403


def test_stats_say_that_clickhouse_is_away_as_a_problem(kafka: Broker, tmp_path: Path) -> None:
    alone = Service(
        tmp_path,
        ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL="http://127.0.0.1:1",
    )
    alone.start()
    try:
        headers = alone.headers(Role.VIEWER)
        answer = httpx.get(f"{alone.url}/v1/stats", headers=headers, timeout=20)
    finally:
        alone.stop()
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/clickhouse-unavailable"
    assert "Retry-After" in answer.headers
