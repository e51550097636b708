"""A whole stack for the live tests, driven through the command line as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.live.processes import ANABRANCH

FREE_PORTS = ("--port", "0", "--kafka-port", "0", "--clickhouse-port", "0")


def anabranch(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ANABRANCH, *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.1)


class WholeStack:
    """The stack of one state folder, detached."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def up(self) -> subprocess.CompletedProcess[str]:
        return anabranch("up", "--detach", "--state", self.state, *FREE_PORTS)

    def down(self) -> subprocess.CompletedProcess[str]:
        return anabranch("down", "--state", self.state)

    def status(self) -> dict[str, Any]:
        answer = anabranch("status", "--json", "--state", self.state)
        said: dict[str, Any] = json.loads(answer.stdout)
        assert answer.returncode == (0 if said["ready"] else 1)
        return said

    @property
    def record(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self.state / "stack.json").read_text())
        return said

    @property
    def log(self) -> str:
        path = self.state / "logs" / "stack.log"
        return path.read_text() if path.exists() else ""

    def pid(self, name: str) -> int:
        (found,) = (part["pid"] for part in self.record["processes"] if part["name"] == name)
        return int(found)

    def pids(self) -> list[int]:
        return [part["pid"] for part in self.record["processes"]]

    def kill(self, name: str) -> None:
        os.kill(self.pid(name), signal.SIGKILL)


def all_gone(pids: list[int]) -> bool:
    return all(map(is_gone, pids))


def is_gone(pid: int) -> bool:
    """Ended, whether or not its parent has taken note of that yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    made = WholeStack(tmp_path_factory.mktemp("stack") / "state")
    yield made
    made.down()


@pytest.fixture
def stack(shared_stack: WholeStack) -> WholeStack:
    """Running, whatever the test before did to it."""
    if not (shared_stack.state / "stack.json").exists():
        answer = shared_stack.up()
        assert answer.returncode == 0, answer.stderr + shared_stack.log
    return shared_stack
