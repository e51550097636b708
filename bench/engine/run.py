"""How many events a second go from Kafka into ClickHouse, ours and the peers', side by side?

Events are loaded once; each contestant reads them in a group of its own into a database of its own,
one after the other, in another order each time. With --only nothing is written to bench/results.

    python -m bench engine [--runs 3] [--events 1000000] [--only NAME ...] [--patience MINUTES]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import psutil
import structlog
from aiokafka.admin import NewTopic

from anabranch.settings import KafkaSettings
from bench.broker import own_broker
from bench.engine import table
from bench.engine.client import Failed, Stage
from bench.engine.contestants import CONTESTANTS, Contestant
from bench.engine.events import MINUTE_MS, PARTITIONS, Pool, Truth, load
from bench.engine.measure import Figures, measure
from bench.engine.programs import Missing, Programs
from bench.engine.registry import own_registry
from bench.engine.store import own_clickhouse
from bench.engine.usage import busy
from bench.machine import facts
from schemas.topics import TURN_METRICS
from streams.topic_admin import admin_client

STEP = 500_000  # a share of it still fills whole inserts
# A run beside more than this of anything else is disturbed. The bench itself and the kernel's work
# for the network take some of it.
DISTURBED_CORES = 0.25
Loaded = Mapping[int, tuple[str, Truth]]
"""By the number of events: the topic that holds them, and what they sum up to."""


class Bench:
    def __init__(self, stage: Stage, loaded: Loaded) -> None:
        self._stage = stage
        self._loaded = loaded
        self._number = 0

    def run(self, contestant: Contestant, command: list[str], events: int) -> Figures:
        self._number += 1
        topic, truth = self._loaded[events // contestant.share]
        name = f"bench_{contestant.name.replace('-', '_')}_{self._number}"
        return measure(self._stage, contestant, command, topic, truth, name)


def commands(
    programs: Programs, contestants: list[Contestant]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """How each is started, and why some are not."""
    found, absent = {}, {}
    for contestant in contestants:
        try:
            found[contestant.name] = contestant.command(programs)
        except Missing as missing:
            absent[contestant.name] = str(missing)
            print(f"  {contestant.title}: skipped, {missing}", flush=True)
    return found, absent


def load_all(kafka: KafkaSettings, counts: set[int]) -> dict[int, tuple[str, Truth]]:
    pool = Pool((int(time.time() * 1000) // MINUTE_MS - 2) * MINUTE_MS)
    loaded: dict[int, tuple[str, Truth]] = {}
    for events in sorted(counts, reverse=True):
        # Our worker reads the catalogue's topic, so that is the one with all events.
        topic = f"{TURN_METRICS.name}.{events}" if loaded else TURN_METRICS.name
        if loaded:
            asyncio.run(make_topic(kafka, topic))
        begun = time.perf_counter()
        asyncio.run(load(kafka, topic, pool, events))
        print(f"  {events:,} events in {topic}, {time.perf_counter() - begun:.1f} s", flush=True)
        loaded[events] = topic, pool.truth(events)
    return loaded


async def make_topic(kafka: KafkaSettings, name: str) -> None:
    async with admin_client(kafka) as admin:
        await admin.create_topics(
            [NewTopic(name, PARTITIONS, 1, topic_configs=TURN_METRICS.config(1))]
        )


def rotated(contestants: list[Contestant], run: int, runs: int) -> list[Contestant]:
    """Another one goes first in every run."""
    first = run * max(1, len(contestants) // runs) % len(contestants)
    return contestants[first:] + contestants[:first]


def measure_all(
    bench: Bench, started_by: Mapping[str, list[str]], options: argparse.Namespace
) -> dict[str, list[Figures]]:
    chosen = [contestant for contestant in CONTESTANTS if contestant.name in started_by]
    figures: dict[str, list[Figures]] = defaultdict(list)
    deadline = time.monotonic() + 60 * options.patience
    for run in range(options.runs):
        for contestant in rotated(chosen, run, options.runs):
            print(f"  run {run + 1}: {contestant.title}", end="", flush=True)
            try:
                found = undisturbed(
                    partial(bench.run, contestant, started_by[contestant.name], options.events),
                    deadline,
                )
            except Failed as failed:
                print(f": FAILED, {failed}", flush=True)
                continue
            figures[contestant.name].append(found)
            print(
                f": {found.rate:,.0f}/s, {found.client_cpu_us:.2f} us,"
                f" others {found.others_cores:.2f} cores",
                flush=True,
            )
    return figures


def undisturbed(run: Callable[[], Figures], deadline: float) -> Figures:
    """Until the deadline, a run that something else on the machine disturbed is not the result."""
    while True:
        while time.monotonic() < deadline and others_now() > DISTURBED_CORES:
            pass
        found = run()
        if found.others_cores <= DISTURBED_CORES or time.monotonic() >= deadline:
            return found
        print(f" (disturbed: {found.rate:,.0f}/s)", end="", flush=True)


def others_now(seconds: float = 2.0) -> float:
    """What is busy while nobody of ours runs, in cores."""
    before = busy()
    time.sleep(seconds)
    return (busy() - before) / seconds


def main() -> None:
    names = [contestant.name for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument(
        *("--patience", "-p"),
        type=float,
        default=0,
        metavar="MINUTES",
        help="repeat runs that something else on the machine disturbed, for so long in all",
    )
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"{names}")
    options = parser.parse_args()
    if options.events % STEP or options.events < STEP:
        parser.error(f"--events is a multiple of {STEP}")
    wanted = [one for one in CONTESTANTS if options.only is None or one.name in options.only]
    machine = facts()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with (
        tempfile.TemporaryDirectory(prefix="anabranch-bench-") as folder,
        own_broker() as (kafka, broker),
        own_clickhouse() as store,
        own_registry(kafka, Path(folder)) as registry,
    ):
        programs = Programs(Path(folder))
        started_by, absent = commands(programs, wanted)
        loaded = load_all(kafka, {options.events // one.share for one in wanted} | {options.events})
        processes = psutil.Process(broker.pid), psutil.Process(store.process.pid)
        stage = Stage(kafka, processes[0], store, processes[1], registry, Path(folder))
        bench = Bench(stage, loaded)
        warm_up(bench, programs, options.events)
        figures = measure_all(bench, started_by, options)
    print("\n".join(["", table.table(figures, absent), "", *table.aims(figures)]))
    if options.only is None and figures:
        table.write(figures, absent, machine)
    if any(len(figures[name]) < options.runs for name in started_by):
        raise SystemExit("some runs failed")


def warm_up(bench: Bench, programs: Programs, events: int) -> None:
    """Broker and database have met the job before the first run that counts."""
    peer = next(one for one in CONTESTANTS if one.name == "confluent")
    bench.run(peer, peer.command(programs), events)


if __name__ == "__main__":
    main()
