"""How many events a second does POST /v1/events take on one core, with Kafka's acknowledgement?

The service has one core for itself; the load generator and the broker share the others. Batches of
100 turn metrics of realistic size, 16 requests at a time; every event is stored on acks=all before
it counts.

    python -m bench.http_events [--seconds 10] [--runs 5] [--batch 100] [--connections 16]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from anabranch.settings import KafkaSettings
from deploy.ports import choose_port
from service.settings import TopicSettings
from streams.topic_admin import ensure_topics

COMMAND = (sys.executable, "-m", "deploy.main")
RESULTS = Path(__file__).parent / "results"


def turn_metric(number: int) -> dict[str, Any]:
    unit = f"s{number % 5000:05}"
    return {
        "type": "turn_metric",
        "session": unit,
        "player": f"p{number % 2000:05}",
        "locale": ("en", "de", "pt-BR")[number % 3],
        "exposures": [{"experiment": "npc_tone", "version": 1, "variation": "warm", "unit": unit}],
        "turn_ms": 500 + number % 700,
        "model_ms": 300 + number % 400,
        "bundle_tokens": 900 + number % 90,
        "output_tokens": 100 + number % 60,
        "retries": 0,
        "fallbacks": 0,
        "tool_calls": number % 3,
        "acts": 1,
        "choices": 3,
        "time_ticks": number % 10,
    }


class Stack:
    """A broker and the service on ports of their own, each pinned to its core."""

    def __init__(self, folder: Path) -> None:
        self.kafka_port = choose_port("127.0.0.1", 0, flag="port")
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.key = secrets.token_urlsafe(24)
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: str, port: int, cores: list[int]) -> psutil.Process:
        (self._folder / "credentials.json").write_text(json.dumps({"emit": self.key}))
        process = subprocess.Popen(
            [*COMMAND, command, "--state", str(self._folder), "--port", str(port)],
            env={
                **os.environ,
                "ANABRANCH_CREDENTIALS": str(self._folder / "credentials.json"),
                "ANABRANCH_KAFKA__BOOTSTRAP": f"127.0.0.1:{self.kafka_port}",
                "ANABRANCH_REGISTRY__URL": f"http://127.0.0.1:{self.port}",
                "ANABRANCH_LOG_LEVEL": "warning",
            },
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / f"{command}.log").open("wb"),
            preexec_fn=lambda: os.sched_setaffinity(0, cores),  # its threads inherit it
        )
        self._processes.append(process)
        return psutil.Process(process.pid)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            process.wait(30)


async def until(url: str, client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def measure(
    stack: Stack, service: psutil.Process, *, seconds: float, batch: int, connections: int
) -> dict[str, float]:
    bodies = [
        json.dumps({"events": [turn_metric(first + n) for n in range(batch)]}).encode()
        for first in range(0, batch * 50, batch)
    ]
    headers = {"Authorization": f"Bearer {stack.key}", "Content-Type": "application/json"}
    latencies: list[float] = []
    accepted = 0

    async def writer(client: httpx.AsyncClient, until_time: float) -> None:
        nonlocal accepted
        number = 0
        while time.perf_counter() < until_time:
            number += 1
            begun = time.perf_counter()
            answer = await client.post("/v1/events", content=bodies[number % len(bodies)])
            latencies.append(time.perf_counter() - begun)
            answer.raise_for_status()
            accepted += answer.json()["accepted"]

    limits = httpx.Limits(max_connections=connections)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{stack.port}", headers=headers, limits=limits, timeout=60
    ) as client:
        spent, begun = sum(service.cpu_times()[:2]), time.perf_counter()
        await asyncio.gather(*(writer(client, begun + seconds) for _ in range(connections)))
        elapsed = time.perf_counter() - begun
        spent = sum(service.cpu_times()[:2]) - spent
    latencies.sort()
    return {
        "events_per_second": accepted / elapsed,
        "service_cpu_us_per_event": spent / accepted * 1e6,
        "service_core_share": spent / elapsed,
        "request_p50_ms": latencies[len(latencies) // 2] * 1000,
        "request_p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "service_rss_mb": service.memory_info().rss / 1e6,
    }


async def run(options: argparse.Namespace, folder: Path) -> list[dict[str, float]]:
    cores = sorted(os.sched_getaffinity(0))
    own, others = cores[:1], cores[1:] or cores
    os.sched_setaffinity(0, others)
    stack = Stack(folder)
    try:
        stack.start("kafka", stack.kafka_port, others)
        service = stack.start("service", stack.port, own)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.port}") as client:
            await until("/readyz?only=kafka", client)
            await ensure_topics(
                KafkaSettings(bootstrap=f"127.0.0.1:{stack.kafka_port}"), TopicSettings()
            )
            await until("/readyz?only=topics&only=schemas", client)
        shape = {"batch": options.batch, "connections": options.connections}
        await measure(stack, service, seconds=3, **shape)  # the JVM and the caches get warm
        return [
            await measure(stack, service, seconds=options.seconds, **shape)
            for _ in range(options.runs)
        ]
    finally:
        stack.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = asyncio.run(run(options, Path(folder)))
    medians = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
    RESULTS.mkdir(exist_ok=True)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "options": vars(options),
        "median": medians,
        "runs": runs,
    }
    (RESULTS / "http_events.json").write_text(json.dumps(report, indent=2) + "\n")
    for name, value in medians.items():
        lowest, highest = min(one[name] for one in runs), max(one[name] for one in runs)
        print(f"{name:26} {value:12,.2f}   ({lowest:,.2f} to {highest:,.2f})")
    if medians["events_per_second"] < 5_000:
        sys.exit("below 5,000 events/s")


if __name__ == "__main__":
    main()
