"""A real ClickHouse engine behind its HTTP protocol: one a session, or one of a test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.ports import choose_port
from sinks.settings import ClickHouseSettings

COMMAND = (sys.executable, "-m", "deploy.main", "clickhouse")


class ClickHouse:
    """The process `anabranch clickhouse`. It keeps its port and its data over stop and start."""

    def __init__(self, state: Path, **environment: str) -> None:
        self.state = state
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.url = f"http://127.0.0.1:{self.port}"
        self.password = "live-tests"
        self.settings = ClickHouseSettings(url=self.url, password=SecretStr(self.password))
        self.output = state / "clickhouse.out"
        self._environment = {
            **os.environ,
            "ANABRANCH_CLICKHOUSE__PASSWORD": self.password,
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self, timeout: float = 60) -> None:
        """Return when it answers."""
        self.state.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*COMMAND, "--state", str(self.state), "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                lines = self.output.read_text(errors="replace").splitlines()[-20:]
                raise RuntimeError("ClickHouse did not start:\n" + "\n".join(lines))
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5) as answer:
                return bool(answer.read() == b"Ok.\n")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self, timeout: float = 30) -> int:
        """End it as an operator would; its exit status."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End it at once, as a crash would."""
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
