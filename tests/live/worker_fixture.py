"""A worker as a real process, and all that it needs: a Kafka, a ClickHouse and a registry."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from deploy.worker_process import LISTENS_ON
from service.settings import TopicSettings
from sinks.migrate import migrate
from streams.topic_admin import ensure_topics
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.kafka_fixture import Broker
from tests.live.processes import AnabranchProcess
from tests.live.service_fixture import Service

_ADDRESS = re.compile(rf"{re.escape(LISTENS_ON)}(http://\S+)")


class Surroundings(NamedTuple):
    """What a worker lives in. Topics and tables are there."""

    kafka: Broker
    clickhouse: ClickHouse
    service: Service

    @property
    def environment(self) -> dict[str, str]:
        """For any command; without what the caller's own environment says of Anabranch."""
        return {
            **{name: value for name, value in os.environ.items() if "ANABRANCH_" not in name},
            "ANABRANCH_KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "ANABRANCH_CLICKHOUSE__URL": self.clickhouse.url,
            "ANABRANCH_CLICKHOUSE__PASSWORD": self.clickhouse.password,
            "ANABRANCH_REGISTRY__URL": self.service.url,
        }

    def asked(self, statement: str, **parameters: object) -> list[list[Any]]:
        return asked(self.clickhouse, statement, **parameters)


@contextmanager
def surroundings(folder: Path, *, partitions: int = 4) -> Iterator[Surroundings]:
    """New ones, on free ports; they end with the block. Any part may be stopped and started."""
    kafka, clickhouse = Broker(folder / "kafka"), ClickHouse(folder / "clickhouse")
    (folder / "service").mkdir(parents=True)
    service = Service(
        folder / "service",
        ANABRANCH_KAFKA__BOOTSTRAP=kafka.bootstrap,
        ANABRANCH_CLICKHOUSE__URL=clickhouse.url,
        ANABRANCH_CLICKHOUSE__PASSWORD=clickhouse.password,
    )
    parts = (kafka, clickhouse, service)
    try:
        for part in parts:
            part.start()
        asyncio.run(_prepare(kafka, clickhouse, partitions))
        service.wait_ready()
        yield Surroundings(*parts)
    finally:
        for part in reversed(parts):
            part.stop()


async def _prepare(kafka: Broker, clickhouse: ClickHouse, partitions: int) -> None:
    await ensure_topics(kafka.settings, TopicSettings(partitions=partitions))
    await migrate(clickhouse.settings)


class WorkerProcess(AnabranchProcess):
    """The process `anabranch worker`. `settings` are variables without their ANABRANCH_WORKER__."""

    def __init__(
        self, around: Surroundings, folder: Path, name: str = "worker-1", **settings: object
    ) -> None:
        self.name = name
        self.settings = {f"ANABRANCH_WORKER__{key}": str(value) for key, value in settings.items()}
        self._around = around
        self._folder = folder
        self._seen = 0
        super().__init__(
            *("worker", "--state", str(folder), "--name", name, "--port", "0"),
            output=folder / f"{name}.out",
            environment={**around.environment, **self.settings},
        )

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 60) -> None:
        self._seen = len(self.log)
        super().start(timeout)

    def answers(self) -> bool:
        try:
            return self.get("/healthz").status_code == 200
        except (httpx.TransportError, LookupError):
            return False

    @property
    def log(self) -> str:
        """What it has written, in all its lives."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    @property
    def log_of_this_life(self) -> str:
        return self.log[self._seen :]

    @property
    def url(self) -> str:
        """LookupError until it says where it listens."""
        found = _ADDRESS.search(self.log_of_this_life)
        if found is None:
            raise LookupError(f"{self.name} does not say where it listens")
        return found[1]

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=5)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series that have these labels."""
        total = 0.0
        for line in self.get("/metrics").text.splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(
                f'{label}="{wanted}"' in series for label, wanted in labels.items()
            ):
                total += float(value)
        return total

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_end(self, timeout: float = 60) -> int:
        """The exit status of one that ends by itself."""
        assert self._process is not None
        status = self._process.wait(timeout)
        self._process = None
        return status


def asked(clickhouse: ClickHouse, statement: str, **parameters: object) -> list[list[Any]]:
    """The rows that ClickHouse answers, by its own HTTP protocol; numbers of 64 bits as such."""
    answer = httpx.post(
        clickhouse.url,
        params={
            "database": clickhouse.settings.database,
            "default_format": "JSONCompact",
            "output_format_json_quote_64bit_integers": "0",
            **{f"param_{name}": str(value) for name, value in parameters.items()},
        },
        headers={
            "X-ClickHouse-User": clickhouse.settings.username,
            "X-ClickHouse-Key": clickhouse.password,
        },
        content=statement.encode(),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    rows: list[list[Any]] = answer.json()["data"] if answer.text.strip() else []
    return rows


def applied(around: Surroundings, topic: str) -> Mapping[str, int]:
    """What the table `batches` has of a topic: records stored, dead, and both."""
    ((rows, dead),) = around.asked(
        "SELECT sum(rows), sum(dead) FROM batches WHERE topic = {topic:String}", topic=topic
    )
    return {"rows": rows, "dead": dead, "records": rows + dead}


def wait_applied(
    around: Surroundings,
    topic: str,
    *,
    rows: int | None = None,
    dead: int | None = None,
    records: int | None = None,
    seconds: float = 60,
) -> None:
    """Return when at least so many rows were stored, records have died, or both together."""
    wanted = {"rows": rows or 0, "dead": dead or 0, "records": records or 0}

    def there() -> bool:
        now = applied(around, topic)
        return all(now[what] >= number for what, number in wanted.items())

    wait_until(there, seconds, lambda: f"{topic}: {applied(around, topic)}, not {wanted}")


def wait_until(
    holds: Callable[[], bool], seconds: float = 30, said: Callable[[], str] = lambda: ""
) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s. {said()}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """Shared by the tests that run workers."""
    with surroundings(tmp_path_factory.mktemp("around")) as made:
        yield made


@pytest.fixture(scope="session")
def shared_worker(
    around: Surroundings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    process = WorkerProcess(around, tmp_path_factory.mktemp("worker"))
    yield process
    process.stop()


@pytest.fixture
def worker(shared_worker: WorkerProcess) -> WorkerProcess:
    """Running, whatever the test before did to it. A test with workers of its own stops it."""
    if not shared_worker.runs:
        shared_worker.start()
    return shared_worker
