"""The HTTP service as a real process, before the live Kafka and ClickHouse."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.ports import choose_port
from service.access import Role
from service.settings import TopicSettings
from streams.topic_admin import ensure_topics
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.kafka_fixture import Broker
from tests.live.processes import ANABRANCH, AnabranchProcess

COMMAND = (*ANABRANCH, "service")


class Service(AnabranchProcess):
    """The process `anabranch service`, with a key for each role."""

    def __init__(self, state: Path, **environment: str) -> None:
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.url = f"http://127.0.0.1:{self.port}"
        self.keys = {role: secrets.token_urlsafe(24) for role in Role}
        credentials = state / "credentials.json"
        credentials.write_text(json.dumps({role.value: key for role, key in self.keys.items()}))
        super().__init__(
            *("service", "--state", str(state), "--port", str(self.port)),
            output=state / "service.out",
            environment={
                **{name: value for name, value in os.environ.items() if "ANABRANCH_" not in name},
                "ANABRANCH_CREDENTIALS": str(credentials),
                "ANABRANCH_REGISTRY__URL": self.url,
                **environment,
            },
        )

    def answers(self) -> bool:
        """Whether it lives; that says nothing of what it depends on."""
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self, *only: str, timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while True:
            answer = httpx.get(f"{self.url}/readyz", params={"only": list(only)})
            if answer.status_code == 200:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the service is not ready: {answer.text}")
            time.sleep(0.1)

    def headers(self, role: Role = Role.EMIT) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[role]}"}

    def client(self, role: Role = Role.EMIT) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=self.headers(role), timeout=60)


@pytest.fixture(scope="session")
def service(
    kafka: Broker, clickhouse: ClickHouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Shared, and ready: topics exist, Kafka and ClickHouse answer."""
    asyncio.run(ensure_topics(kafka.settings, TopicSettings()))
    started = Service(
        tmp_path_factory.mktemp("service"),
        ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=clickhouse.password,
    )
    started.start()
    try:
        started.wait_ready()
        yield started
    finally:
        started.stop()
