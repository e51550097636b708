"""One run of one contestant: from the moment it has its partitions until all is stored.

A peer says itself when its last insert was acknowledged. Ours never ends by itself: ClickHouse is
asked every 100 ms whether all is there, which counts against it. CPU is user and system time of the
process with its children, within that time; memory is the most that was resident at once, ever.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from bench.engine.client import READING, STORED, TIMEOUT_SECONDS, Client, Failed, Moment, Stage
from bench.engine.contestants import Contestant
from bench.engine.events import Truth
from bench.engine.store import Store, WrongResult
from bench.engine.usage import peak_rss_mb
from sinks.settings import ClickHouseSettings

_ASK_EVERY_SECONDS = 0.1


class Figures(NamedTuple):
    events: int
    seconds: float
    client_cpu_us: float
    """Of this and the next two: an event."""
    clickhouse_cpu_us: float
    broker_cpu_us: float
    peak_rss_mb: float
    others_cores: float
    """What everything else on the machine used meanwhile, in cores."""

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def all_cpu_us(self) -> float:
        return self.client_cpu_us + self.clickhouse_cpu_us + self.broker_cpu_us


def measure(
    stage: Stage,
    contestant: Contestant,
    command: Sequence[str],
    topic: str,
    truth: Truth,
    name: str,
) -> Figures:
    """`name` is of this run alone: its consumer group and its database. Raises Failed."""
    with stage.store.database(name, ours=contestant.ours) as database:
        told = _of_ours if contestant.ours else _of_peers
        environment = told(stage, topic, database, truth.events) | contestant.environment
        stage.settle()
        client = Client(command, environment, stage)
        try:
            started = client.moment(READING)
            ended = (
                _all_stored(contestant, client, stage.store, name, truth)
                if contestant.ours
                else client.moment(STORED)
            )
            peak = peak_rss_mb(client.process)
        finally:
            client.stop(signal.SIGTERM if contestant.ours else signal.SIGKILL)
        try:
            if contestant.stores:
                stage.store.check(name, truth, ours=contestant.ours)
            if contestant.ours and contestant.unit_sums:
                stage.store.check_unit_sums(name, truth)
        except WrongResult as error:
            raise Failed(str(error)) from error
    return figures(started, ended, truth.events, peak)


def figures(started: Moment, ended: Moment, events: int, peak: float) -> Figures:
    spent = Moment(*(after - before for before, after in zip(started, ended, strict=True)))
    known = spent.client + spent.clickhouse + spent.broker
    return Figures(
        events,
        spent.at,
        spent.client / events * 1e6,
        spent.clickhouse / events * 1e6,
        spent.broker / events * 1e6,
        peak,
        max(0.0, spent.machine - known) / spent.at,
    )


def _all_stored(
    contestant: Contestant, client: Client, store: Store, database: str, truth: Truth
) -> Moment:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while client.is_running() and time.monotonic() < deadline:
        if store.has_all(database, truth, unit_sums=contestant.unit_sums):
            return client.now()
        time.sleep(_ASK_EVERY_SECONDS)
    said = "\n".join(client.last_words)
    raise Failed(f"not all rows within {TIMEOUT_SECONDS:.0f} s, or it ended\n{said}")


def _of_peers(
    stage: Stage, topic: str, database: ClickHouseSettings, events: int
) -> dict[str, str]:
    return {
        "BENCH_BOOTSTRAP": stage.kafka.bootstrap,
        "BENCH_TOPIC": topic,
        "BENCH_GROUP": database.database,
        "BENCH_EVENTS": str(events),
        "BENCH_URL": database.url,
        "BENCH_USER": database.username,
        "BENCH_PASSWORD": _password(database),
        "BENCH_DATABASE": database.database,
    }


def _of_ours(stage: Stage, topic: str, database: ClickHouseSettings, events: int) -> dict[str, str]:
    return {
        "ANABRANCH_KAFKA__BOOTSTRAP": stage.kafka.bootstrap,
        "ANABRANCH_CLICKHOUSE__URL": database.url,
        "ANABRANCH_CLICKHOUSE__PASSWORD": _password(database),
        "ANABRANCH_CLICKHOUSE__DATABASE": database.database,
        "ANABRANCH_WORKER__GROUP": database.database,
        "ANABRANCH_REGISTRY__URL": stage.registry,
    }


def _password(database: ClickHouseSettings) -> str:
    return database.password.get_secret_value() if database.password else ""
