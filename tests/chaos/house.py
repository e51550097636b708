"""Everything that runs: the stores with proxies before them, the registry, and the workers."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from service.settings import TopicSettings
from sinks.migrate import migrate
from streams.topic_admin import ensure_topics
from tests.chaos.broker import TwoDoorBroker
from tests.chaos.crashing_worker import STATUS, VARIABLE
from tests.chaos.proxies import ClickHouseProxy, KafkaProxy, ProxyThread
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.service_fixture import Service
from tests.live.worker_fixture import Surroundings, WorkerProcess, asked

SESSION_SECONDS = 3.0
GRACE_SECONDS = 60
WORKER_SETTINGS = {
    "SESSION_TIMEOUT_SECONDS": SESSION_SECONDS,
    "FLUSH_SECONDS": 0.3,
    "BATCH_ROWS": 3_000,
    "INTENT_AGE_SECONDS": 5,
    "DRAIN_SECONDS": 4,
    "DEAD_SHARE": 0.5,
    "GRACE_SECONDS": GRACE_SECONDS,
}


class ChaosWorker(WorkerProcess):
    """Reaches its stores through the proxies, and can be told to crash at a step."""

    def __init__(self, house: House, name: str, **settings: object) -> None:
        super().__init__(
            house.around, house.folder / "workers", name, **{**house.settings, **settings}
        )
        arguments = self._command[3:]
        self._command = [sys.executable, "-m", "tests.chaos.crashing_worker", *arguments]
        self._usual = {
            **house.around.environment,
            **self.settings,
            "ANABRANCH_KAFKA__BOOTSTRAP": f"127.0.0.1:{house.kafka_proxy.port}",
            "ANABRANCH_CLICKHOUSE__URL": house.clickhouse_proxy.url,
            "ANABRANCH_CLICKHOUSE__TIMEOUT_SECONDS": "5",
        }
        self._environment = self._usual

    def crash_at(self, step: str, times: int) -> None:
        """In its next life."""
        self._environment = {**self._usual, VARIABLE: f"{step}:{times}"}

    def start(self, timeout: float = 120) -> None:
        armed = self._environment is not self._usual
        try:
            super().start(timeout)
        except RuntimeError:
            if not armed:  # else it may have been there before it answered
                raise
        finally:
            self._environment = self._usual

    @property
    def status(self) -> int | None:
        """Of the process that ended; None while it runs or is meant to be away."""
        return None if self._process is None else self._process.poll()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def forget(self) -> None:
        """It has ended by itself."""
        if self._process is not None:
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def state(self) -> str:
        """Of its partitions and dependencies, as far as it answers."""
        try:
            return self.get("/readyz").text[:2000]
        except (httpx.TransportError, LookupError) as error:
            return f"no answer: {error!r}"


class House:
    """`around` has the stores themselves; the workers reach them through the proxies."""

    def __init__(self, folder: Path, partitions: int, settings: Mapping[str, object]) -> None:
        self.folder = folder
        self.settings = {**WORKER_SETTINGS, **settings}
        self.partitions = partitions
        self._proxies = ProxyThread()
        self.kafka_proxy = KafkaProxy(self._proxies)
        self.clickhouse_proxy = ClickHouseProxy(self._proxies)
        self.kafka = TwoDoorBroker(folder / "kafka", self.kafka_proxy.port)
        self.clickhouse = ClickHouse(folder / "clickhouse")
        (folder / "service").mkdir(parents=True)
        (folder / "workers").mkdir()
        self.service = Service(
            folder / "service",
            ANABRANCH_KAFKA__BOOTSTRAP=self.kafka.bootstrap,
            ANABRANCH_CLICKHOUSE__URL=self.clickhouse.url,
            ANABRANCH_CLICKHOUSE__PASSWORD=self.clickhouse.password,
        )
        self.around = Surroundings(self.kafka, self.clickhouse, self.service)
        self.workers: list[ChaosWorker] = []

    def start(self, workers: int) -> None:
        for part in self.around:
            part.start()
        asyncio.run(self._prepare())
        self.service.wait_ready()
        self.kafka_proxy.start(self.kafka.workers_port)
        self.clickhouse_proxy.start(self.clickhouse.url)
        # Named ones are static members of the group, and keep their partitions over a restart.
        self.workers = [ChaosWorker(self, f"worker-{number}") for number in range(workers)]
        for worker in self.workers:
            worker.start()

    async def _prepare(self) -> None:
        await ensure_topics(self.kafka.settings, TopicSettings(partitions=self.partitions))
        await migrate(self.clickhouse.settings)

    def stop(self) -> list[int]:
        """The exit statuses of the workers, which are stopped as an operator would."""
        self.heal()
        try:
            statuses = [worker.stop() for worker in self.workers]
        finally:
            for part in (self.service, self.clickhouse, self.kafka):
                part.stop()
            self.kafka_proxy.stop()
            self.clickhouse_proxy.stop()
            self._proxies.close()
        return statuses

    def heal(self) -> None:
        self.kafka_proxy.heal()
        self.clickhouse_proxy.heal()

    def revive(self) -> Iterator[str]:
        """Start what ended; each end that nobody had asked for, as a sentence."""
        for worker in self.workers:
            status = worker.status
            if status is not None:
                worker.forget()
                if status != STATUS:
                    last = "\n    ".join(worker.log_of_this_life.splitlines()[-6:])
                    yield f"{worker.name} ended by itself with {status}:\n    {last}"
            if not worker.runs:
                worker.start()

    def asked(self, statement: str, **parameters: object) -> Sequence[Sequence[Any]]:
        return asked(self.clickhouse, statement, **parameters)


@contextmanager
def opened(
    folder: Path,
    *,
    workers: int,
    partitions: int = 4,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[House]:
    """`settings` are those of the workers, without their ANABRANCH_WORKER__."""
    house = House(folder, partitions, settings)
    try:
        house.start(workers)
        yield house
    finally:
        house.stop()
