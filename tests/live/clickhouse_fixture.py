"""A real ClickHouse engine behind its HTTP protocol: one a session, or one of a test's own."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.ports import choose_port
from sinks.settings import ClickHouseSettings
from tests.live.processes import ANABRANCH, AnabranchProcess

COMMAND = (*ANABRANCH, "clickhouse")


class ClickHouse(AnabranchProcess):
    """The process `anabranch clickhouse`. It keeps its port and its data over stop and start."""

    def __init__(self, state: Path, **environment: str) -> None:
        self.state = state
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.url = f"http://127.0.0.1:{self.port}"
        self.password = "live-tests"
        self.settings = ClickHouseSettings(url=self.url, password=SecretStr(self.password))
        super().__init__(
            *("clickhouse", "--state", str(state), "--port", str(self.port)),
            output=state / "clickhouse.out",
            environment={
                **os.environ,
                "ANABRANCH_CLICKHOUSE__PASSWORD": self.password,
                **environment,
            },
        )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5) as answer:
                return bool(answer.read() == b"Ok.\n")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    server = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_clickhouse(tmp_path: Path) -> Iterator[ClickHouse]:
    """Not started yet, for tests that stop or kill it."""
    server = ClickHouse(tmp_path / "state")
    try:
        yield server
    finally:
        server.kill()
