"""How long from Kafka's append of an event until `GET /v1/stats` shows it as applied.

A whole stack with one worker, and simulated traffic at a steady rate, on this machine; the traffic
is encoded before (bench/prepared_traffic.py). A consumer of record batches notes when Kafka took
each; the stats are asked every 100 ms, and every batch that they cover by then has become visible.
Events are weighed alike: a batch counts for each it holds.

    python -m bench freshness [--rate 20000 --viewers 50]

Viewers look at the report of the experiment that the traffic is about, each once a second; it is
sent to each when it has changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaTopicPartition

from bench.machine import facts, keep
from bench.prepared_traffic import PreparedTraffic
from service.ingestion import INGESTED
from streams.kafka_log import TopicPartition
from streams.transport import deliver_batches

ANABRANCH = (sys.executable, "-m", "deploy.main")
ASK_SECONDS = 0.1
EXPERIMENT = "npc_tone"


class Waiting(NamedTuple):
    last: int
    appended_ms: int
    events: int


class Looks(NamedTuple):
    seconds: list[float]
    """How long each answer took."""
    reports: set[str]


class Visible(NamedTuple):
    seconds: float
    events: int


@contextmanager
def running_stack(folder: Path) -> Iterator[dict[str, Any]]:
    ports = ("--port", "0", "--kafka-port", "0", "--clickhouse-port", "0")
    subprocess.run([*ANABRANCH, "up", "--state", str(folder), *ports, "--detach"], check=True)
    try:
        yield json.loads((folder / "stack.json").read_text())
    finally:
        subprocess.run([*ANABRANCH, "down", "--state", str(folder)], check=True)


async def note_appends(kafka: str, waiting: dict[TopicPartition, deque[Waiting]]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    deliver_batches(consumer)
    try:
        consumer.assign([KafkaTopicPartition(topic, n) for topic in INGESTED for n in range(4)])
        await consumer.seek_to_end()
        while True:
            for place, batches in (await consumer.getmany(timeout_ms=200)).items():
                waiting.setdefault(TopicPartition(*place), deque()).extend(
                    Waiting(b.last, b.max_timestamp_ms, b.count) for b in batches
                )
    finally:
        await consumer.stop()


async def watch(
    url: str, key: str, waiting: dict[TopicPartition, deque[Waiting]], seconds: float
) -> list[Visible]:
    seen: list[Visible] = []
    until = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as client:
        while time.monotonic() < until:
            stats = (await client.get("/v1/stats")).json()
            now = time.time()
            for topic in stats["topics"]:
                for partition in topic["partitions"]:
                    place = TopicPartition(topic["topic"], partition["partition"])
                    queue = waiting.get(place, deque())
                    while queue and queue[0].last <= partition["applied_offset"]:
                        batch = queue.popleft()
                        seen.append(Visible(now - batch.appended_ms / 1000, batch.events))
            await asyncio.sleep(ASK_SECONDS)
    return seen


async def define(url: str, key: str) -> None:
    variations = [{"key": name, "weight": 5_000} for name in ("control", "warm")]
    metrics = {"primary": ["output_tokens"], "secondary": ["turn_ms", "model_ms", "retries"]}
    definition = {"key": EXPERIMENT, "variations": variations, "metrics": metrics}
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        (await client.post("/v1/experiments", json=definition)).raise_for_status()
        (await client.post(f"/v1/experiments/{EXPERIMENT}/start")).raise_for_status()


async def view(client: aiohttp.ClientSession, looks: Looks) -> None:
    """As a browser does: what it has already is not sent again. Until it is cancelled."""
    has: dict[str, str] = {}
    while True:
        begun = time.monotonic()
        async with client.get(f"/v1/experiments/{EXPERIMENT}/report", headers=has) as answer:
            answer.raise_for_status()
            await answer.read()
        looks.seconds.append(time.monotonic() - begun)
        has = {"If-None-Match": answer.headers["etag"]}
        looks.reports.add(answer.headers["etag"])
        await asyncio.sleep(max(0.0, begun + 1 - time.monotonic()))


def quantile(seen: list[Visible], q: float) -> float:
    ordered = sorted(seen)
    rank = q * sum(visible.events for visible in ordered)
    for seconds, events in ordered:
        rank -= events
        if rank <= 0:
            return seconds
    return ordered[-1].seconds


async def look_on(url: str, key: str, viewers: int, looks: Looks) -> None:
    """Until it is cancelled. Viewers come one after the other, within a second."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(url, headers=headers) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(viewers):
            group.create_task(view(client, looks))
            await asyncio.sleep(1 / viewers)


async def run(
    rate: int, seconds: float, warm_up: float, viewers: int
) -> tuple[list[Visible], Looks]:
    with tempfile.TemporaryDirectory(prefix="anabranch-bench-") as folder:
        state = Path(folder) / "state"
        with running_stack(state) as stack:
            keys = json.loads((state / "credentials.json").read_text())
            key, url = keys["viewer"], stack["service"]
            looks = Looks([], set())
            if viewers:
                await define(url, keys["admin"])
            traffic = await asyncio.to_thread(
                PreparedTraffic, url, EXPERIMENT, rate, warm_up + seconds
            )
            waiting: dict[TopicPartition, deque[Waiting]] = {}
            appends = asyncio.create_task(note_appends(stack["kafka"], waiting))
            sending = asyncio.create_task(traffic.send(stack["kafka"]))
            tasks = [appends, sending]
            try:
                await traffic.begins()
                await watch(url, key, waiting, warm_up)
                if viewers:
                    tasks.append(asyncio.create_task(look_on(url, key, viewers, looks)))
                return await watch(url, key, waiting, seconds), looks
            finally:
                for task in tasks:
                    task.cancel()
                for ended in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(ended, Exception):
                        raise ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=10_000, help="events per second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=15)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--viewers", type=int, default=0, help="of a report, once a second each")
    given = parser.parse_args()
    machine = facts()
    figures: dict[str, list[float]] = {}
    for number in range(given.runs):
        seen, looks = asyncio.run(run(given.rate, given.seconds, given.warm_up, given.viewers))
        events = sum(visible.events for visible in seen)
        for name, value in {
            "events/s seen": events / given.seconds,
            "p50, s": quantile(seen, 0.5),
            "p99, s": quantile(seen, 0.99),
            "max, s": max(seen).seconds,
        }.items():
            figures.setdefault(name, []).append(value)
        if looks.seconds:
            ordered = sorted(looks.seconds)
            for name, value in {
                "looks at the report": len(ordered),
                "reports made": len(looks.reports),
                "a look, p50, ms": 1000 * ordered[len(ordered) // 2],
                "a look, p95, ms": 1000 * ordered[int(0.95 * (len(ordered) - 1))],
            }.items():
                figures.setdefault(name, []).append(value)
        print(
            f"run {number + 1}: { ({k: round(v[-1], 2) for k, v in figures.items()}) }", flush=True
        )
    notes = [f"{given.rate:,} events/s of all four topics, {given.seconds:g} s a run, one worker."]
    name = "freshness"
    if given.viewers:
        name = "viewers"
        notes.append(f"{given.viewers} viewers of one report meanwhile, each once a second.")
    keep(name, "From Kafka's append to visible", machine, figures, notes)


if __name__ == "__main__":
    main()
