"""The process of a contestant, and the stage that it shares with the others."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from anabranch.settings import KafkaSettings
from bench.engine.programs import ROOT
from bench.engine.store import Store
from bench.engine.usage import busy, cpu

READING, STORED, ENDED = "reading", "stored", "ended"
# What our worker logs first of its partitions.
OURS_READING = '"event": "partitions assigned"'
TIMEOUT_SECONDS = 300.0


class Failed(Exception):  # noqa: N818  # what it did
    """A contestant ended, took too long or stored something wrong; the text says which."""


class Moment(NamedTuple):
    at: float
    client: float
    clickhouse: float
    broker: float
    machine: float
    """All that is busy, user and system, of every process."""


class Stage(NamedTuple):
    """Broker, database and registry, which all contestants share."""

    kafka: KafkaSettings
    broker: psutil.Process
    store: Store
    clickhouse: psutil.Process
    registry: str
    folder: Path

    def settle(self, seconds: float = 30) -> None:
        """Wait until both are at rest: merges of the last run would be paid for by the next."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = cpu(self.broker) + cpu(self.clickhouse)
            time.sleep(0.5)
            if cpu(self.broker) + cpu(self.clickhouse) - before < 0.03:
                return


class Client:
    """The process of a contestant, and the moments that its output tells."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stage: Stage,
    ) -> None:
        self._stage = stage
        self._popen = subprocess.Popen(
            command,
            cwd=stage.folder,  # some leave files where they are started
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.process = psutil.Process(self._popen.pid)
        self.last_words: deque[str] = deque(maxlen=20)
        self._moments: queue.Queue[tuple[str, Moment | None]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            said = line.strip()
            if said not in {READING, STORED}:
                self.last_words.append(said)
            mark = READING if OURS_READING in said else said
            if mark in {READING, STORED}:
                try:
                    self._moments.put((mark, self.now()))
                except psutil.Error:  # it ended meanwhile
                    break
        self._moments.put((ENDED, None))

    def now(self) -> Moment:
        stage = self._stage
        return Moment(
            time.perf_counter(),
            cpu(self.process),
            cpu(stage.clickhouse),
            cpu(stage.broker),
            busy(),
        )

    def moment(self, wanted: str) -> Moment:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                said, moment = self._moments.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"not {wanted} within {TIMEOUT_SECONDS:.0f} s") from None
            if moment is None:
                raise Failed(f"it ended before it was {wanted}: {self._end()}")
            if said == wanted:
                return moment

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def _end(self) -> str:
        return f"status {self._popen.wait(10)}\n" + "\n".join(self.last_words)

    def stop(self, number: int) -> None:
        children = self.process.children(recursive=True) if self.is_running() else []
        self._popen.send_signal(number)
        try:
            self._popen.wait(30)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        _kill(children)
        self._reader.join(10)
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        if process.is_running():
            process.kill()
