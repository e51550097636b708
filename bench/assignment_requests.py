"""How many assignment requests a second does one worker answer over Kafka, and how soon?

Each request asks for one of 20 running experiments with targeting. The requests are in Kafka before
the worker is started; the rate is from its first answer to its last. Then requests come at a
steady rate, and the latency is between Kafka's own times of the request and of its answer. Broker
and worker share the machine; CPU is of both, an answered request.

    python -m bench.assignment_requests [--requests 200000] [--runs 3] [--rate 1000] [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import fastavro
import httpx
import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from anabranch.encoding import Encoder, partition_of
from anabranch.events import Assignment, AssignmentRequest, ExperimentRecord
from anabranch.fields import Event
from anabranch.settings import KafkaSettings
from bench.broker import own_broker
from bench.engine.registry import own_registry
from bench.engine.usage import cpu, peak_rss_mb
from bench.machine import facts, keep
from deploy.worker_process import LISTENS_ON
from schemas.releases import latest
from schemas.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS, EXPERIMENTS
from service.settings import TopicSettings

EXPERIMENTS_RUNNING = 20
PARTITIONS = TopicSettings().partitions
_ASK_SECONDS = 0.05
_START_SECONDS = 120
_BURST_SECONDS = 0.02

Figures = dict[str, list[float]]
Encoded = tuple[bytes, bytes]


def encoder(kind: type[Event]) -> Encoder:
    release = latest(f"{kind.TOPIC}-value")
    assert release is not None
    return Encoder(kind, release.id)


def definitions() -> Iterator[Encoded]:
    encode = encoder(ExperimentRecord).encode
    for number in range(EXPERIMENTS_RUNNING):
        definition = {
            "key": f"experiment_{number}",
            "variations": [
                {"key": "control", "weight": 5_000},
                {"key": "warm", "weight": 5_000, "params": {"max_output_tokens": 600}},
            ],
            "targeting": {"locale": {"$in": ["en", "de", "pt-BR"]}, "level": {"$gte": 3}},
            "coverage": 8_000,
            "dimensions": ["platform"],
        }
        yield encode(
            ExperimentRecord(
                key=f"experiment_{number}",
                version=1,
                status="running",
                definition=json.dumps(definition),
                changed_by="bench",
            )
        )


def requests(count: int, prefix: str) -> Iterator[Encoded]:
    encode = encoder(AssignmentRequest).encode
    for number in range(count):
        yield encode(
            AssignmentRequest(
                request_id=f"{prefix}-{number:026d}",
                unit=f"mfrggzdfmztwq2lk{number % 50_000:010d}",
                attributes={
                    "locale": ("en", "de", "pt-BR", "fr")[number % 4],
                    "level": str(number % 40),
                    "platform": ("ios", "android", "web")[number % 3],
                },
                experiments=(f"experiment_{number % EXPERIMENTS_RUNNING}",),
            )
        )


async def put(
    kafka: KafkaSettings, topic: str, records: Iterator[Encoded], partitions: int
) -> None:
    options: dict[str, Any] = {"acks": "all", "compression_type": "zstd", "linger_ms": 20}
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, **options) as producer:
        for key, value in records:
            await producer.send(topic, value, key, partition=partition_of(key, partitions))
        await producer.flush()


class Worker:
    """One that answers and does nothing else."""

    def __init__(self, kafka: KafkaSettings, registry: str, group: str, folder: Path) -> None:
        self._output = folder / f"{group}.out"
        command = [sys.executable, "-m", "deploy.main", "worker", "--state", str(folder)]
        with self._output.open("wb") as out:
            self.process = subprocess.Popen(
                [*command, "--name", group, "--port", "0"],
                env={
                    **os.environ,
                    "ANABRANCH_KAFKA__BOOTSTRAP": kafka.bootstrap,
                    "ANABRANCH_REGISTRY__URL": registry,
                    "ANABRANCH_WORKER__GROUP": group,
                    "ANABRANCH_WORKER__INGEST": "false",
                    "ANABRANCH_LOG_LEVEL": "warning",
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._client = httpx.Client(timeout=10)

    def answered(self) -> float:
        """-1 before it says where it listens."""
        found = re.search(rf"{re.escape(LISTENS_ON)}(http://\S+)", self._output.read_text())
        if self.process.poll() is not None:
            raise SystemExit(f"the worker ended:\n{self._output.read_text()[-3000:]}")
        if found is None:
            return -1
        page = self._client.get(f"{found[1]}/metrics").text
        name = 'anabranch_worker_assignment_requests_total{outcome="answered"}'
        return next((float(line.split()[1]) for line in page.splitlines() if name in line), 0.0)

    def wait_answered(self, count: float, seconds: float) -> tuple[float, float]:
        """When it had answered so many, by the monotonic clock, and how many those were."""
        deadline = time.monotonic() + seconds
        while (answered := self.answered()) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{answered:,.0f} of {count:,.0f} requests were answered in time")
            time.sleep(_ASK_SECONDS)
        return time.monotonic(), answered

    def stop(self) -> None:
        self._client.close()
        self.process.terminate()
        self.process.wait(60)


@contextmanager
def running(kafka: KafkaSettings, registry: str, group: str, folder: Path) -> Iterator[Worker]:
    worker = Worker(kafka, registry, group, folder)
    try:
        yield worker
    finally:
        worker.stop()


def measure_rate(worker: Worker, broker: psutil.Process, count: int, figures: Figures) -> None:
    process = psutil.Process(worker.process.pid)
    begun, already = worker.wait_answered(1, _START_SECONDS)
    before = cpu(process), cpu(broker)
    ended, answered = worker.wait_answered(count, 600)
    used = cpu(process) - before[0], cpu(broker) - before[1]
    counted = answered - already
    for name, value in {
        "requests/s": counted / (ended - begun),
        "CPU of the worker a request, us": used[0] / counted * 1e6,
        "CPU of the broker a request, us": used[1] / counted * 1e6,
        "memory of the worker at its peak, MB": peak_rss_mb(process),
    }.items():
        figures.setdefault(name, []).append(value)


async def measure_latency(
    kafka: KafkaSettings, rate: int, seconds: float, run: int, figures: Figures
) -> None:
    prefix = f"paced{run}"
    records = list(requests(int(rate * seconds), prefix))
    answered: dict[str, int] = {}
    reading = asyncio.create_task(_note_answers(kafka, prefix, len(records), answered))
    asked = await _ask_paced(kafka, records, rate)
    async with asyncio.timeout(60):
        await reading
    cuts = quantiles([answered[name] - at for name, at in asked.items()], n=1000)
    at_rate = f"latency at {rate:,} requests/s"
    for name, value in (("p50", cuts[499]), ("p99", cuts[989]), ("p99.9", cuts[998])):
        figures.setdefault(f"{at_rate}, {name}, ms", []).append(value)


async def _ask_paced(kafka: KafkaSettings, records: Sequence[Encoded], rate: int) -> dict[str, int]:
    """By request: Kafka's time of it, in milliseconds."""
    burst = max(1, int(rate * _BURST_SECONDS))
    waiting = []
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        await asyncio.sleep(1)  # the reader of the answers is there
        due = time.monotonic()
        for begin in range(0, len(records), burst):
            for key, value in records[begin : begin + burst]:
                partition = partition_of(key, PARTITIONS)
                waiting.append(
                    await producer.send(ASSIGNMENT_REQUESTS.name, value, key, partition=partition)
                )
            due += burst / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        times = [(await sent).timestamp for sent in waiting]
    schema = fastavro.parse_schema(json.loads(AssignmentRequest.SCHEMA))
    return {
        str(_decoded(value, schema)["request_id"]): at
        for (_, value), at in zip(records, times, strict=True)
    }


async def _note_answers(
    kafka: KafkaSettings, prefix: str, count: int, answered: dict[str, int]
) -> None:
    schema = fastavro.parse_schema(json.loads(Assignment.SCHEMA))
    consumer = AIOKafkaConsumer(ASSIGNMENTS.name, bootstrap_servers=kafka.bootstrap)
    async with consumer:
        while len(answered) < count:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    request = str(_decoded(record.value, schema)["request_id"])
                    if request.startswith(prefix):
                        answered[request] = record.timestamp


def _decoded(value: bytes | None, schema: Any) -> dict[str, Any]:
    assert value is not None
    event: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
    return dict(event)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.assignment_requests")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1_000, help="requests per second")
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args()
    machine, figures = facts(), Figures()
    with own_broker() as (kafka, process), tempfile.TemporaryDirectory() as temporary:
        folder, broker = Path(temporary), psutil.Process(process.pid)
        with own_registry(kafka, folder) as registry:
            asyncio.run(put(kafka, EXPERIMENTS.name, definitions(), 1))
            many = requests(given.requests, "waiting")
            asyncio.run(put(kafka, ASSIGNMENT_REQUESTS.name, many, PARTITIONS))
            waiting = given.requests
            for run in range(given.runs):
                with running(kafka, registry, f"bench-{run}", folder) as worker:
                    measure_rate(worker, broker, waiting, figures)
                    asyncio.run(measure_latency(kafka, given.rate, given.seconds, run, figures))
                waiting += int(given.rate * given.seconds)
                shown = {name: round(values[-1], 2) for name, values in figures.items()}
                print(f"run {run + 1}: {shown}", flush=True)
    notes = [" ".join(paragraph.split()) for paragraph in (__doc__ or "").split("\n\n")[1:2]]
    keep("assignment_requests", "Assignments over Kafka", machine, figures, notes)


if __name__ == "__main__":
    main()
