"""How long does POST /v1/assign take at a steady 1,000 requests a second, exposures logged?

A broker, the service and the load generator share this machine. Requests are sent at their times
whether or not earlier ones were answered, and each is timed from the moment at which it was due: a
service that stands still is not spared the requests that it kept away. At the end every exposure
has to be in Kafka.

    python -m bench http_assign [--runs 3] [--seconds 30] [--rate 1000] [--experiments 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiokafka import AIOKafkaProducer

from anabranch.encoding import Encoder
from anabranch.events import ExperimentRecord
from anabranch.settings import KafkaSettings
from bench.machine import facts, keep
from deploy.ports import choose_port
from schemas.releases import releases
from schemas.topics import EXPERIMENTS
from service.settings import TopicSettings
from streams.topic_admin import ensure_topics

COMMAND = (sys.executable, "-m", "deploy.main")
CONNECTIONS = 64


def experiment(number: int) -> dict[str, Any]:
    return {
        "key": f"experiment_{number}",
        "variations": [
            {"key": "control", "weight": 5_000, "params": {"max_output_tokens": 400}},
            {"key": "warm", "weight": 5_000, "params": {"tone": "warm", "max_output_tokens": 600}},
        ],
        "targeting": {"locale": {"$in": ["en", "de"]}, "level": {"$gte": number % 5}},
    }


class Stack:
    def __init__(self, folder: Path) -> None:
        self.kafka_port = choose_port("127.0.0.1", 0, flag="port")
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.key = secrets.token_urlsafe(24)
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, command: str, port: int) -> psutil.Process:
        credentials = self._folder / "credentials.json"
        credentials.write_text(json.dumps({"evaluate": self.key}))
        process = subprocess.Popen(
            [*COMMAND, command, "--state", str(self._folder), "--port", str(port)],
            env={
                **os.environ,
                "ANABRANCH_CREDENTIALS": str(credentials),
                "ANABRANCH_KAFKA__BOOTSTRAP": f"127.0.0.1:{self.kafka_port}",
                "ANABRANCH_REGISTRY__URL": self.url,
                "ANABRANCH_LIMITS__EVALUATE": "100000",
            },
            stdout=(self._folder / f"{command}.out").open("wb"),
            stderr=subprocess.STDOUT,
        )
        self._processes.append(process)
        return psutil.Process(process.pid)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            process.wait(30)


async def until(session: aiohttp.ClientSession, url: str) -> None:
    said = ""
    deadline = time.monotonic() + 90
    while True:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{url}: {said}")
        try:
            async with session.get(url) as answer:
                if answer.status == 200:
                    return
                said = await answer.text()
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(0.1)


async def define(kafka: KafkaSettings, count: int) -> None:
    (release,) = [r for r in releases() if r.subject == f"{EXPERIMENTS.name}-value"][-1:]
    encoder = Encoder(ExperimentRecord, release.id)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await producer.start()
    try:
        for number in range(count):
            definition = experiment(number)
            key, value = encoder.encode(
                ExperimentRecord(
                    key=definition["key"],
                    version=1,
                    status="running",
                    definition=json.dumps(definition),
                    changed_by="bench",
                )
            )
            await producer.send_and_wait(EXPERIMENTS.name, key=key, value=value)
    finally:
        await producer.stop()


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time: as little work as can be, for the service needs
    the cores."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length and self._answer is not None:
            self._received = b""
            self._answer.set_result(body if b" 200 " in head[:15] else head)

    async def ask(self, request: bytes) -> bytes:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


async def load(
    stack: Stack, rate: int, seconds: float, experiments: int
) -> tuple[list[float], int]:
    """Latencies in seconds, and how many of the answers were of units in their experiment."""
    loop = asyncio.get_running_loop()
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        _, connection = await loop.create_connection(Connection, "127.0.0.1", stack.port)
        idle.put_nowait(connection)
    latencies: list[float] = []
    inside = 0
    locales = ("en", "de", "fr")
    head = (
        f"POST /v1/assign HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stack.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    )

    async def ask(number: int, due: float) -> None:
        nonlocal inside
        body = json.dumps(
            {
                "unit": f"unit-{number}",
                "experiment": f"experiment_{number % experiments}",
                "attributes": {"locale": locales[number % 3], "level": number % 20},
            }
        )
        connection = await idle.get()
        answer = await connection.ask(f"{head}{len(body)}\r\n\r\n{body}".encode())
        latencies.append(time.perf_counter() - due)
        idle.put_nowait(connection)
        if b'"reason"' not in answer or b'"deadline"' in answer or b'"failed"' in answer:
            raise RuntimeError(answer.decode())
        inside += b'"in_experiment":true' in answer

    begun = time.perf_counter()
    under_way: set[asyncio.Task[None]] = set()
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(ask(number, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return latencies, inside


async def exposures_stored(session: aiohttp.ClientSession, url: str) -> int:
    async with session.get(f"{url}/metrics") as answer:
        text = await answer.text()
    found = re.search(r'anabranch_exposures_total\{outcome="stored"\} ([0-9.e+]+)', text)
    return int(float(found[1])) if found else 0


async def run(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    stack = Stack(folder)
    headers = {"Authorization": f"Bearer {stack.key}"}
    try:
        stack.start("kafka", stack.kafka_port)
        service = stack.start("service", stack.port)
        async with aiohttp.ClientSession(headers=headers) as session:
            await until(session, f"{stack.url}/readyz?only=kafka")
            kafka = KafkaSettings(bootstrap=f"127.0.0.1:{stack.kafka_port}")
            await ensure_topics(kafka, TopicSettings())
            await define(kafka, options.experiments)
            await until(session, f"{stack.url}/readyz?only=topics&only=schemas&only=definitions")
            await load(stack, options.rate, 5, options.experiments)  # gets warm
            before = await exposures_stored(session, stack.url)
            spent = sum(service.cpu_times()[:2])
            latencies, inside = await load(
                *(stack, options.rate, options.seconds, options.experiments)
            )
            spent = sum(service.cpu_times()[:2]) - spent
            async with asyncio.timeout(30):
                while (  # noqa: ASYNC110  what another process does
                    stored := await exposures_stored(session, stack.url) - before
                ) < inside:
                    await asyncio.sleep(0.2)
    finally:
        stack.stop()
    latencies.sort()

    def percentile(share: float) -> float:
        return latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1_000

    return {
        "requests": len(latencies),
        "p50, ms": round(percentile(0.5), 2),
        "p99, ms": round(percentile(0.99), 2),
        "p99.9, ms": round(percentile(0.999), 2),
        "max, ms": round(latencies[-1] * 1_000, 2),
        "service CPU a request, us": round(spent / len(latencies) * 1e6, 1),
        "units in an experiment": inside,
        "exposures in Kafka": stored,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--experiments", type=int, default=20)
    options = parser.parse_args()
    machine = facts()
    runs = []
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(asyncio.run(run(options, Path(folder))))
    figures = {name: [one[name] for one in runs] for name in runs[0]}
    notes = [
        f"{options.rate:,} requests a second for {options.seconds:.0f} s, each for one of "
        f"{options.experiments} experiments with targeting; broker, service and load generator on "
        "the same machine. Timed from when each was due."
    ]
    keep("http_assign", "POST /v1/assign at a steady rate", machine, figures, notes)


if __name__ == "__main__":
    main()
