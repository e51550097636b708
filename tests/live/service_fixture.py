"""The HTTP service as a real process, before the live Kafka and ClickHouse."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
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

COMMAND = (sys.executable, "-m", "deploy.main", "service")


class Service:
    """The process `anabranch service`, with a key for each role."""

    def __init__(self, state: Path, **environment: str) -> None:
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.url = f"http://127.0.0.1:{self.port}"
        self.keys = {role: secrets.token_urlsafe(24) for role in Role}
        credentials = state / "credentials.json"
        credentials.write_text(json.dumps({role.value: key for role, key in self.keys.items()}))
        self.output = state / "service.out"
        self._command = [*COMMAND, "--state", str(state), "--port", str(self.port)]
        self._environment = {
            **{name: value for name, value in os.environ.items() if "ANABRANCH_" not in name},
            "ANABRANCH_CREDENTIALS": str(credentials),
            "ANABRANCH_REGISTRY__URL": self.url,
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the service does not run"
        return self._process.pid

    def start(self, timeout: float = 30) -> None:
        """Return when it answers; that says nothing of what it depends on."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the service did not start:\n{self.output.read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
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

    def stop(self, timeout: float = 30) -> int:
        """End it as an operator would; its exit status."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        self._end(signal.SIGKILL, 10)

    def _end(self, how: signal.Signals, timeout: float) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        status = self._process.returncode
        self._process = None
        return status


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
