"""The kill switch on a whole path: emitted events, Kafka, worker, ClickHouse, two services."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from service.access import Role
from service.settings import TopicSettings
from sinks.clickhouse import connected
from sinks.migrate import migrate
from streams.topic_admin import ensure_topics
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.kafka_fixture import Broker
from tests.live.processes import AnabranchProcess
from tests.live.service_fixture import Service
from tests.live.webhook_receiver import SECRET, Receiver, receiving
from tests.live.worker_fixture import Surroundings, WorkerProcess, wait_until

RULE = {"metric": "turn_ms", "direction": "increase", "threshold": 0.2}
_BATCHES = itertools.count()


class House(NamedTuple):
    around: Surroundings
    other: Service
    worker: WorkerProcess
    receiver: Receiver

    @property
    def services(self) -> tuple[Service, Service]:
        return self.around.service, self.other

    def ask(self, path: str, role: Role = Role.VIEWER, at: int = 0) -> Any:
        service = self.services[at]
        answer = httpx.get(f"{service.url}{path}", headers=service.headers(role), timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, role: Role = Role.ADMIN) -> httpx.Response:
        service = self.around.service
        headers = service.headers(role)
        return httpx.post(f"{service.url}{path}", json=body, headers=headers, timeout=20)

    def made(self, **rule: Any) -> str:
        """A running experiment that carries a rule."""
        key = f"switch_{uuid.uuid4().hex[:8]}"
        variations = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]
        body = {"key": key, "variations": variations, "kill_switch": {**RULE, **rule}}
        for path, content in (("", body), (f"/{key}/start", None)):
            answer = self.post(f"/v1/experiments{path}", content)
            assert answer.is_success, answer.text
        return key

    def status(self, key: str, at: int = 0) -> str:
        return str(self.ask(f"/v1/experiments/{key}", at=at)["status"])

    def metric(self, name: str, **labels: str) -> float:
        """The sum of both services'."""
        total = 0.0
        for service in self.services:
            for line in httpx.get(f"{service.url}/metrics", timeout=20).text.splitlines():
                series, _, value = line.rpartition(" ")
                if series.partition("{")[0] == name and all(
                    f'{label}="{wanted}"' in series for label, wanted in labels.items()
                ):
                    total += float(value)
        return total

    def warning(self) -> str | None:
        answer = httpx.get(f"{self.around.service.url}/readyz", timeout=20).json()
        found: str | None = answer["warnings"].get("kill_switch")
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("switch")
    kafka, clickhouse = Broker(folder / "kafka"), ClickHouse(folder / "clickhouse")
    with receiving() as receiver:
        services = []
        for name in ("one", "other"):
            (folder / name).mkdir()
            environment = {
                "ANABRANCH_KAFKA__BOOTSTRAP": kafka.bootstrap,
                "ANABRANCH_CLICKHOUSE__URL": clickhouse.url,
                "ANABRANCH_CLICKHOUSE__PASSWORD": clickhouse.password,
                "ANABRANCH_WEBHOOK__URL": receiver.url,
                "ANABRANCH_WEBHOOK__SECRET": SECRET,
                "ANABRANCH_WEBHOOK__TIMEOUT_SECONDS": "0.5",
            }
            services.append(Service(folder / name, **environment))
        around = Surroundings(kafka, clickhouse, services[0])
        worker = WorkerProcess(around, folder / "worker")
        parts: tuple[AnabranchProcess, ...] = (kafka, clickhouse, *services, worker)
        try:
            for first in parts[:2]:
                first.start()
            asyncio.run(_prepare(kafka, clickhouse))
            for then in parts[2:]:
                then.start()
            for service in services:
                service.wait_ready()
            yield House(around, services[1], worker, receiver)
        finally:
            for part in reversed(parts):
                part.stop()


async def _prepare(kafka: Broker, clickhouse: ClickHouse) -> None:
    await ensure_topics(kafka.settings, TopicSettings())
    await migrate(clickhouse.settings)


def emit(house: House, events: list[dict[str, Any]]) -> None:
    answer = house.post("/v1/events", {"events": events}, role=Role.EMIT)
    assert answer.status_code == 202, answer.text
    assert not answer.json()["rejected"]


def turns(key: str, version: int, units: range, warm_ms: int) -> list[dict[str, Any]]:
    """A turn of each unit; every second one is in the variation `warm`."""
    found = []
    for number in units:
        variation = ("control", "warm")[number % 2]
        exposure = {"experiment": key, "version": version, "variation": variation}
        exposure |= {"unit": f"{key}-{number}"}
        turn_ms = (500 if variation == "control" else warm_ms) + number % 100
        counts = dict.fromkeys(("bundle_tokens", "output_tokens", "retries", "fallbacks"), 1)
        counts |= dict.fromkeys(("tool_calls", "acts", "choices", "time_ticks"), 1)
        turn = {"type": "turn_metric", "session": f"{key}-{number}", "player": f"p{number}"}
        found.append(
            {**turn, "locale": "en", "exposures": [exposure], "turn_ms": turn_ms, "model_ms": 1}
            | counts
        )
    return found


def exposed(key: str, version: int, units: range) -> list[dict[str, Any]]:
    found = []
    for number in units:
        decided = {"version": version, "variation": ("control", "warm")[number % 2]}
        unit = {"unit": f"{key}-{number}", "exposure_id": f"{key}-{number}"}
        fields = {"experiment": key, "locale": "en", "attributes": {}, "source": "test"}
        found.append({"type": "exposure", **fields, **decided, **unit})
    return found


def put_harm(house: House, key: str, version: int = 2) -> None:
    """Rows as a worker leaves them, for when there is no Kafka to send them through."""
    at = int(time.time()) - 60
    exposures, turns = [], []
    for number in range(400):
        unit, variation = f"{key}-{number}", ("control", "warm")[number % 2]
        first = {"ts": at, "version": version, "variation": variation, "locale": "en"}
        base = {"experiment": key, "unit": unit}
        row = {**base, "variations": [variation], "n": 1, "last_ts": at}
        exposures.append({**row, "first": {**first, "attributes": []}})
        turn_ms = (500, 1_500)[number % 2] + number % 100
        row = {**base, "day": at // 86_400, "version": version, "variation": variation, "n": 1}
        turns.append({**row, "turn_ms_sum": turn_ms})
    batch = {"topic": "made", "partition": 0, "epoch": key, "first": next(_BATCHES), "last": 1}
    rows = {"unit_exposures": exposures, "unit_metrics": turns}
    asyncio.run(_insert(house, {**rows, "batches": [{**batch, "applied_at": at}]}))


async def _insert(house: House, rows: dict[str, list[dict[str, Any]]]) -> None:
    async with connected(house.around.clickhouse.settings) as client:
        for table, some in rows.items():
            body = "\n".join(map(json.dumps, some))
            await client.raw_insert(table, insert_block=body, fmt="JSONEachRow")


def audited(house: House, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = house.ask("/v1/audit", Role.ADMIN)["entries"]
    return [one for one in found if one["target"] == key]


def test_harmful_experiment_is_stopped_once_told_of_and_undone(house: House) -> None:
    key = house.made()
    emit(house, exposed(key, 2, range(400)))
    emit(house, turns(key, 2, range(400), warm_ms=500))

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = house.ask(f"/v1/experiments/{key}/kill-switch")
        return found

    wait_until(lambda: bool(seen()["arms"]) and seen()["arms"][0]["units"] == 200, 60)
    assert seen()["armed"]
    assert seen()["arms"][0]["p_value"] == 1.0
    assert house.status(key) == "running"

    emit(house, turns(key, 2, range(400), warm_ms=1_500))
    began = time.monotonic()
    wait_until(lambda: house.status(key) == "stopped", 30)
    assert time.monotonic() - began < 15  # about one on a quiet machine
    wait_until(lambda: house.status(key, at=1) == "stopped", 5)

    versions = house.ask(f"/v1/experiments/{key}/history")["versions"]
    assert [one["status"] for one in versions] == ["stopped", "running", "draft"]
    assert versions[0]["changed_by"] == "kill switch"
    assert versions[0]["comment"].startswith("warm has turn_ms at ")
    wait_until(lambda: bool(house.receiver.of(key)), 10)
    wait_until(lambda: len(audited(house, key)) == 3, 60)
    stop = next(one for one in audited(house, key) if one["action"] == "experiment.stop")
    assert (stop["actor"], stop["comment"]) == ("kill switch", versions[0]["comment"])
    (told,) = house.receiver.of(key)
    assert told.is_genuine
    assert told.id == f"kill-switch:{key}:3"
    assert told.body["type"] == "experiment.stopped_by_kill_switch"
    assert told.body["data"]["variation"] == "warm"
    assert told.body["data"]["p_value"] < 0.05

    undone = house.post(told.body["data"]["undo"])
    assert undone.status_code == 200, undone.text
    assert (undone.json()["status"], undone.json()["version"]) == ("running", 4)
    # What was seen before the undo is not held against it; what comes after it is.
    emit(house, turns(key, 2, range(400), warm_ms=1_500))
    emit(house, exposed(key, 4, range(1_000, 1_100)))
    wait_until(lambda: seen()["since_version"] == 4, 30)
    assert house.status(key) == "running"
    emit(house, exposed(key, 4, range(1_100, 1_500)))
    emit(house, turns(key, 4, range(1_000, 1_500), warm_ms=1_500))
    wait_until(lambda: house.status(key) == "stopped", 30)
    assert house.ask(f"/v1/experiments/{key}")["version"] == 5
    wait_until(lambda: len(house.receiver.of(key)) == 2, 10)


def test_undo_is_refused_where_a_person_stopped_it(house: House) -> None:
    key = house.made()
    path = f"/v1/experiments/{key}/kill-switch/undo"
    assert "has not been stopped" in house.post(path).json()["detail"]
    house.post(f"/v1/experiments/{key}/stop").raise_for_status()
    refused = house.post(path)
    assert refused.status_code == 409
    assert "was stopped by admin" in refused.json()["detail"]
    assert house.post(path, role=Role.VIEWER).status_code == 403


def test_stop_does_not_wait_for_a_receiver_that_is_slow_or_broken(house: House) -> None:
    house.receiver.answers += [(204, 2.0), (500, 0.0), (302, 0.0)]
    key = house.made()
    put_harm(house, key)
    wait_until(lambda: house.status(key) == "stopped", 20)
    wait_until(lambda: len(house.receiver.of(key)) == 4, 40)
    wait_until(lambda: house.metric("anabranch_webhooks_total", outcome="delivered") >= 1, 10)
    assert {one.id for one in house.receiver.of(key)} == {f"kill-switch:{key}:3"}
    assert all(one.is_genuine for one in house.receiver.of(key))
    logs = "".join(service.output.read_text() for service in house.services)
    assert "a webhook is tried again" in logs
    assert "T0KEN" not in logs
    assert SECRET not in logs


def test_rule_on_what_cannot_be_watched_is_told_of(house: House) -> None:
    key = house.made(metric="nobody_knows")
    shown = house.ask(f"/v1/experiments/{key}")
    assert "kill_switch.metric" in [one["place"] for one in shown["warnings"]]
    wait_until(lambda: "rules see nothing" in (house.warning() or ""), 20)
    assert key not in (house.warning() or "")  # anybody may read it
    seen = house.ask(f"/v1/experiments/{key}/kill-switch")
    assert (seen["armed"], seen["problem"]) == (False, "there is no metric nobody_knows")
    house.post(f"/v1/experiments/{key}/stop").raise_for_status()
    wait_until(lambda: house.warning() is None, 10)


def test_switch_says_that_it_is_blind_while_clickhouse_is_away(house: House) -> None:
    key = house.made()
    wait_until(lambda: house.metric("anabranch_kill_switch_rules") >= 2, 10)
    house.around.clickhouse.kill()
    wait_until(lambda: "has not seen new data" in (house.warning() or ""), 40)
    assert house.metric("anabranch_kill_switch_blind_seconds") > 10
    house.around.clickhouse.start()
    wait_until(lambda: house.warning() is None, 60)
    wait_until(lambda: house.metric("anabranch_kill_switch_blind_seconds") < 5, 60)
    house.post(f"/v1/experiments/{key}/stop").raise_for_status()


def test_stop_is_tried_until_kafka_is_back(house: House) -> None:
    key = house.made()
    wait_until(lambda: house.metric("anabranch_kill_switch_rules") >= 2, 10)
    house.around.kafka.kill()
    put_harm(house, key)
    wait_until(
        lambda: house.metric("anabranch_kill_switch_stops_total", outcome="unavailable") >= 1, 40
    )
    wait_until(lambda: "stops that could not be made yet: 1;" in (house.warning() or ""), 30)
    assert house.status(key) == "running"
    house.around.kafka.start()
    wait_until(lambda: house.status(key) == "stopped", 90)
    versions = house.ask(f"/v1/experiments/{key}/history")["versions"]
    assert [one["changed_by"] for one in versions if one["status"] == "stopped"] == ["kill switch"]
    wait_until(lambda: len({one.id for one in house.receiver.of(key)}) == 1, 30)
    wait_until(lambda: house.warning() is None, 60)
