"""What the service does when Kafka or ClickHouse goes away, and when it is itself told to end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from service.settings import TopicSettings
from streams.topic_admin import ensure_topics
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.event_topics import stored_events
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import COMMAND, Service

WRITERS = 8
EVENTS_A_REQUEST = 50


async def until(holds: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def until_waiting_for(service: Service, name: str) -> dict[str, str]:
    """The reason of each dependency that is not ready, once this one is among them."""
    deadline = time.monotonic() + 15
    async with service.client() as client:
        while True:
            answer = await client.get("/readyz")
            states = answer.json()["dependencies"]
            waiting = {name: s["reason"] for name, s in states.items() if not s["ready"]}
            assert answer.status_code == (503 if waiting else 200)
            if waiting.get(name, "not checked yet") != "not checked yet":
                return waiting
            assert time.monotonic() < deadline, f"{name} still counts as ready"
            await asyncio.sleep(0.1)


class Load:
    """Writers that never stop, and what each request was answered."""

    def __init__(self, service: Service) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[httpx.Response] = []
        self._service = service
        self._ending = asyncio.Event()

    async def run(self) -> None:
        async with self._service.client() as client:
            await asyncio.gather(*(self._write(client) for _ in range(WRITERS)))

    def end(self) -> None:
        self._ending.set()

    async def _write(self, client: httpx.AsyncClient) -> None:
        while not self._ending.is_set():
            ids = [uuid.uuid4().hex for _ in range(EVENTS_A_REQUEST)]
            events = [
                {"type": "outcome", "event_id": one, "unit": one[:6], "values": {"cost": 1.0}}
                for one in ids
            ]
            answer = await client.post("/v1/events", json={"events": events})
            if answer.status_code == 202:
                assert answer.json() == {"accepted": EVENTS_A_REQUEST, "rejected": []}
                self.acknowledged += ids
            else:
                self.refused.append(answer)
                await asyncio.sleep(0.1)

    async def until_refused(self, more: int) -> None:
        target = len(self.refused) + more
        await until(lambda: len(self.refused) >= target, seconds=30)

    async def until_acknowledged(self, more: int) -> None:
        target = len(self.acknowledged) + more
        await until(lambda: len(self.acknowledged) >= target, seconds=60)


async def test_every_acknowledged_event_is_in_kafka_when_kafka_stops_and_starts_under_load(
    own_kafka: Broker, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    await ensure_topics(own_kafka.settings, TopicSettings())
    service = Service(
        tmp_path,
        ANABRANCH_KAFKA__BOOTSTRAP=own_kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=clickhouse.password,
        ANABRANCH_SERVICE__PRODUCE_TIMEOUT_SECONDS="1",
        ANABRANCH_SERVICE__MAX_EVENTS_IN_FLIGHT="300",
    )
    await asyncio.to_thread(service.start)
    load = Load(service)
    running = asyncio.create_task(load.run())
    try:
        await asyncio.to_thread(service.wait_ready)
        memory = psutil.Process(service.pid).memory_info
        await load.until_acknowledged(2000)
        before = memory().rss
        for end in (own_kafka.kill, own_kafka.stop):
            await asyncio.to_thread(end)
            await load.until_refused(50)
            await until_waiting_for(service, "kafka")
            await asyncio.to_thread(own_kafka.start)
            await load.until_acknowledged(2000)
        assert memory().rss < before + 40_000_000
        load.end()
        await running

        stored = Counter(
            found.event["event_id"]
            for found in await stored_events(own_kafka.settings, "outcomes.v1")
        )
        assert len(load.acknowledged) >= 6000
        assert not set(load.acknowledged) - stored.keys()
        # An idempotent producer: its own retries write nothing twice.
        assert max(stored.values()) == 1
        assert {answer.status_code for answer in load.refused} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in load.refused)
        kinds = {answer.json()["type"] for answer in load.refused}
        assert kinds == {"/problems/kafka-unavailable", "/problems/overloaded"}
    finally:
        load.end()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.to_thread(service.stop)


async def test_events_go_on_when_clickhouse_is_killed_and_readiness_says_so(
    service: Service, kafka: Broker, own_clickhouse: ClickHouse, tmp_path: Path
) -> None:
    registry = service.url  # here it is an external one, asked by the registry client
    service = Service(
        tmp_path,
        ANABRANCH_REGISTRY__URL=registry,
        ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=own_clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=own_clickhouse.password,
    )
    await asyncio.to_thread(own_clickhouse.start)
    await asyncio.to_thread(service.start)
    try:
        await asyncio.to_thread(service.wait_ready)
        await asyncio.to_thread(own_clickhouse.kill)
        waiting = await until_waiting_for(service, "clickhouse")
        assert list(waiting) == ["clickhouse"]
        assert "does not answer" in waiting["clickhouse"]
        await asyncio.to_thread(service.wait_ready, "kafka", "topics", "schemas")
        async with service.client() as client:
            event = {"type": "outcome", "unit": "u1", "values": {"cost": 1.0}}
            answer = await client.post("/v1/events", json={"events": [event]})
        assert answer.json()["accepted"] == 1
    finally:
        await asyncio.to_thread(service.stop)


async def test_service_starts_while_everything_is_away_and_ends_when_told(tmp_path: Path) -> None:
    service = Service(
        tmp_path,
        ANABRANCH_KAFKA__BOOTSTRAP="127.0.0.1:1",
        ANABRANCH_CLICKHOUSE__URL="http://127.0.0.1:1",
        ANABRANCH_SERVICE__PRODUCE_TIMEOUT_SECONDS="0.5",
    )
    await asyncio.to_thread(service.start)
    try:
        waiting = set(await until_waiting_for(service, "kafka"))
        assert waiting == {"kafka", "topics", "clickhouse", "definitions"}
        async with service.client() as client:
            event = {"type": "outcome", "unit": "u1", "values": {"cost": 1.0}}
            answer = await client.post("/v1/events", json={"events": [event]})
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert (await client.get("/healthz")).status_code == 200
    finally:
        status = await asyncio.to_thread(service.stop)
    assert status == 0
    assert "Traceback" not in service.output.read_text()


async def test_request_under_way_is_finished_when_the_service_is_told_to_end(
    kafka: Broker, tmp_path: Path
) -> None:
    await ensure_topics(kafka.settings, TopicSettings())
    service = Service(tmp_path, ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap)
    await asyncio.to_thread(service.start)
    try:
        await asyncio.to_thread(service.wait_ready, "kafka", "topics")
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        body = b'{"events":[{"type":"outcome","unit":"u1","values":{"cost":1}}]}'
        writer.write(
            (
                f"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Authorization: {service.headers()['Authorization']}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode()
            + body[:20]
        )
        await writer.drain()
        await asyncio.sleep(0.2)
        ending = asyncio.create_task(asyncio.to_thread(service.stop))
        await asyncio.sleep(0.5)
        writer.write(body[20:])
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert b" 202 " in answer.splitlines()[0]
        assert b'"accepted":1' in answer
        assert await ending == 0
    finally:
        await asyncio.to_thread(service.kill)


def test_port_that_is_taken_is_told_with_the_flag(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "--state", str(tmp_path), "--port", str(port)],
            env={"ANABRANCH_SERVICE__OPEN_ACCESS": "true", "PATH": ""},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_service_without_keys_refuses_to_start(tmp_path: Path, host: str) -> None:
    ended = subprocess.run(
        [*COMMAND, "--state", str(tmp_path), "--port", "0", "--host", host],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert "ANABRANCH_CREDENTIALS" in ended.stderr
