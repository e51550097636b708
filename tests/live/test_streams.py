"""Changes as server-sent events: at once, and ended when the service ends."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access import Role
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service


class Events:
    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()

    def next(self) -> tuple[str, Any]:
        """The next event's name and data; comments are passed over."""
        name = ""
        for line in self._lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return name, json.loads(line.removeprefix("data: "))
        raise EOFError("the stream has ended")


@contextmanager
def events(service: Service, path: str, key: str | None = None) -> Iterator[Events]:
    headers = service.headers(Role.EVALUATE)
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    with httpx.stream("GET", f"{service.url}{path}", headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Events(answer)


def make_experiment(service: Service) -> str:
    """A running one, by two changes."""
    key = f"stream_{uuid.uuid4().hex[:8]}"
    variations = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]
    headers = service.headers(Role.ADMIN)
    for path, body in (
        ("/v1/experiments", {"key": key, "variations": variations}),
        (f"/v1/experiments/{key}/start", None),
    ):
        answer = httpx.post(f"{service.url}{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
    return key


def test_growthbooks_stream_has_every_change_in_under_a_second(service: Service) -> None:
    client_key = service.keys[Role.EVALUATE]
    with events(service, f"/sub/{client_key}") as stream:
        name, before = stream.next()
        assert name == "features"
        key = make_experiment(service)
        assert key not in before["features"]
        begun = time.monotonic()
        while "rules" not in stream.next()[1]["features"].get(key, {}):
            pass
        assert time.monotonic() - begun < 1


def test_stream_of_definitions_tells_the_revision_to_ask_for(service: Service) -> None:
    with events(service, "/v1/definitions/stream") as stream:
        name, first = stream.next()
        assert name == "changed"
        key = make_experiment(service)
        _, changed = stream.next()
        assert changed["revision"] > first["revision"]
        answer = httpx.get(f"{service.url}/v1/definitions", headers=service.headers(Role.EVALUATE))
        assert key in {one["key"] for one in answer.json()["documents"]}
        unchanged = httpx.get(
            answer.url,
            headers={**service.headers(Role.EVALUATE), "If-None-Match": answer.headers["etag"]},
        )
        assert (unchanged.status_code, unchanged.content) == (304, b"")


@pytest.mark.parametrize("path", ["/v1/definitions/stream", "/sub/{key}"])
def test_stream_ends_when_its_key_is_revoked(service: Service, path: str) -> None:
    admin = service.headers(Role.ADMIN)
    given = {"name": f"stream-{uuid.uuid4().hex[:8]}", "role": "evaluate"}
    made = httpx.post(f"{service.url}/v1/keys", json=given, headers=admin).json()
    with events(service, path.format(key=made["key"]), made["key"]) as stream:
        stream.next()
        answer = httpx.delete(f"{service.url}/v1/keys/{made['id']}", headers=admin)
        assert answer.is_success, answer.text
        with pytest.raises((EOFError, httpx.RemoteProtocolError)):
            stream.next()


@pytest.mark.parametrize("path", ["/sub/", "/api/features/"])
def test_wrong_client_key_is_refused(service: Service, path: str) -> None:
    answer = httpx.get(f"{service.url}{path}not-a-key-of-this-service")
    assert answer.status_code == 401
    emit = httpx.get(f"{service.url}{path}{service.keys[Role.EMIT]}", timeout=5)
    assert emit.status_code == 403


def test_service_ends_without_waiting_for_those_who_listen(
    kafka: Broker, clickhouse: ClickHouse, service: Service, tmp_path: Path
) -> None:
    own = Service(
        tmp_path,
        ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=clickhouse.password,
    )
    own.start()
    own.wait_ready("definitions")
    with events(own, "/v1/definitions/stream") as stream:
        stream.next()
        begun = time.monotonic()
        own.stop()
        assert time.monotonic() - begun < 8
        with pytest.raises((EOFError, httpx.RemoteProtocolError)):
            stream.next()
