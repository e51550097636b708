"""A real broker for the live tests: one a session, and one of its own for tests that break it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.settings import KafkaSettings
from deploy.ports import choose_port

COMMAND = (sys.executable, "-m", "deploy.main", "kafka")


class Broker:
    """The process `anabranch kafka`. It keeps its port and its data over stop and start."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.settings = KafkaSettings(bootstrap=self.bootstrap)
        self.output = state / "kafka.out"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker does not run"
        return self._process.pid

    def start(self, timeout: float = 60) -> None:
        """Return when the broker answers."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*COMMAND, "--state", str(self.state), "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + timeout
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                lines = self.output.read_text(errors="replace").splitlines()[-20:]
                raise RuntimeError("the broker did not start:\n" + "\n".join(lines))
            time.sleep(0.1)

    def _listens(self) -> bool:
        # The broker opens its port last, when it is ready to take requests.
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, timeout: float = 30) -> None:
        """End it as an operator would; nothing when it does not run."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL, 10)

    def _end(self, how: signal.Signals, timeout: float) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Shared: make topics of your own, never stop it."""
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Broker]:
    """One that a test may stop, kill and start again."""
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()
