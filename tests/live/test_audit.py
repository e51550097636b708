"""The audit log's way: from a denied request to Kafka, ClickHouse and `GET /v1/audit`."""

from __future__ import annotations

import secrets
from typing import Any

import httpx

from service.access import Role
from tests.live.worker_fixture import Surroundings, WorkerProcess, wait_until


def audited(around: Surroundings, **wanted: str) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{around.service.url}/v1/audit",
        params=wanted,
        headers=around.service.headers(Role.ADMIN),
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries


def test_denied_attempt_shows_in_kafka_in_clickhouse_and_over_http(
    around: Surroundings, worker: WorkerProcess
) -> None:
    mark = f"denied-{secrets.token_hex(8)}"
    denied = httpx.get(
        f"{around.service.url}/v1/stats",
        headers={**around.service.headers(Role.EMIT), "X-Request-Id": mark},
    )
    assert denied.status_code == 403

    def found() -> list[dict[str, Any]]:
        return [entry for entry in audited(around) if entry["request_id"] == mark]

    wait_until(lambda: bool(found()), 60)
    (entry,) = found()
    assert (entry["actor"], entry["action"], entry["target"]) == (
        "emit",
        "access.denied",
        "/v1/stats",
    )
    assert entry["after"]["reason"] == "role"
    assert entry["before"] is None
