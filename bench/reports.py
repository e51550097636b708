"""How long a report over all ten turn metrics takes to compute, uncached, beside raw rows.

The same turns lie in the raw tables and in the sums by unit; in one run, the report is computed
from either, and both have to say the same. The server's CPU time is noted beside the clock's, since
other work on the machine moves the latter more.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import psutil

from anabranch.definitions import Definition
from analysis.health import Health
from analysis.metric_catalogue import BUILT_IN
from analysis.report import Subject, report_of
from analysis.report_document import FreshnessAnswer
from analysis.report_metrics import select
from analysis.unit_statistics import BY_LOCALE, StatisticsRequest, UnitStatistics
from analysis.windows import TURN_METRICS
from bench.engine.store import Store, own_clickhouse
from bench.machine import facts, keep
from sinks.limited_queries import LimitedQueries, QueryLimits
from sinks.settings import ClickHouseSettings
from sinks.unit_statistics import UnitStatisticsReader

EXPERIMENT = "npc_tone"
VARIATIONS = ("control", "warm", "cold")
SECONDS = 7 * 86_400
CHUNK = 500_000

_START = "toDateTime64('2026-05-04 00:00:00.000', 3, 'UTC')"
_UNIT = "substring(hex(sipHash128(u)), 1, 26)"
_VARIATION = "['control', 'warm', 'cold'][sipHash64(u, 'variation') % 3 + 1]"
_LOCALE = "['en', 'de', 'fr', 'ja'][sipHash64(u, 'locale') % 4 + 1]"
_FIRST_AT = f"{_START} + toIntervalMillisecond(intDiv(u * {SECONDS * 1000}, {{units}}))"

RAW = """
SELECT seen AS variation, count(), {sums}
FROM
(
    SELECT unit, min(variation) AS seen, max(variation) AS last, count() AS times
    FROM exposures WHERE experiment = 'npc_tone' GROUP BY unit HAVING seen = last
) AS cohort
LEFT JOIN
(
    SELECT exposed.4 AS unit, {totals}
    FROM turn_metrics ARRAY JOIN exposures AS exposed
    WHERE exposed.1 = 'npc_tone' GROUP BY unit
) AS turns USING unit
GROUP BY variation ORDER BY variation
SETTINGS max_threads_min_free_memory_per_thread = 0
"""


def load(store: Store, database: str, units: int, turns: int) -> None:
    """Sessions: each has its turns one after the other, soon after its exposure."""
    of_units = f"FROM (SELECT number AS u FROM numbers({units}))"
    at = _FIRST_AT.format(units=units)
    store.rows(
        "INSERT INTO exposures (event_id, ts, exposure_id, experiment, version, variation, unit, "
        f"locale, source) SELECT {_UNIT}, {at}, {_UNIT}, '{EXPERIMENT}', 1, {_VARIATION}, {_UNIT}, "
        f"{_LOCALE}, 'bench' {of_units}",
        database,
    )
    store.rows(
        f"INSERT INTO unit_exposures SELECT '{EXPERIMENT}', {_UNIT}, "
        f"tuple({at}, 1, {_VARIATION}, {_LOCALE}, []), {at}, [{_VARIATION}], 1 {of_units}",
        database,
    )
    values = ", ".join(
        f"toInt32(sipHash64(number, '{name}') % {800 if place < 4 else 3})"
        for place, name in enumerate(TURN_METRICS)
    )
    totals = ", ".join(f"sum({name})" for name in TURN_METRICS)
    for first in range(0, turns, CHUNK):
        store.rows(
            "INSERT INTO turn_metrics (event_id, ts, session, player, locale, exposures, "
            f"{', '.join(TURN_METRICS)}, _offset) SELECT hex(sipHash128(number)), {at}, {_UNIT}, "
            f"{_UNIT}, {_LOCALE}, [tuple('{EXPERIMENT}', 1, {_VARIATION}, {_UNIT})], {values}, "
            f"number FROM (SELECT number, intDiv(number * {units}, {turns}) AS u "
            f"FROM numbers({first}, {min(CHUNK, turns - first)}))",
            database,
        )
        store.rows(
            f"INSERT INTO unit_metrics (day, experiment, version, variation, unit, n, "
            f"{', '.join(f'{name}_sum' for name in TURN_METRICS)}) "
            f"SELECT toDate(ts), exposed.1, exposed.2, exposed.3, exposed.4, count(), {totals} "
            "FROM turn_metrics ARRAY JOIN exposures AS exposed "
            f"WHERE _offset >= {first} AND _offset < {first + CHUNK} GROUP BY ALL",
            database,
        )


def raw(store: Store, database: str) -> list[list[Any]]:
    sums = ", ".join(
        f"sum(toInt128({name}_sum)), sum(toInt128({name}_sum) * {name}_sum)"
        for name in TURN_METRICS
    )
    totals = ", ".join(f"sum(toInt64({name})) AS {name}_sum" for name in TURN_METRICS)
    return store.rows(RAW.format(sums=sums, totals=totals), database)


def check(statistics: UnitStatistics, rows: list[list[Any]]) -> None:
    for variation, units, *sums in rows:
        arm = statistics.arms[variation]
        assert arm.units == int(units), (variation, arm.units, units)
        for place, name in enumerate(TURN_METRICS):
            moments = arm.metrics[name].moments.one(0)
            mean = int(sums[2 * place]) / int(units)
            squares = int(sums[2 * place + 1]) - int(sums[2 * place]) ** 2 / int(units)
            assert abs(moments.mean / mean - 1) < 1e-9, (variation, name)
            assert abs(moments.squares / squares - 1) < 1e-6, (variation, name)


class Clock:
    def __init__(self, server: psutil.Process) -> None:
        self._server = server
        self.seconds: list[float] = []
        self.cpu: list[float] = []

    async def time(self, what: Callable[[], Awaitable[Any]]) -> Any:
        began, before = time.perf_counter(), self._server.cpu_times()
        answer = await what()
        after = self._server.cpu_times()
        self.seconds.append(time.perf_counter() - began)
        self.cpu.append(after.user + after.system - before.user - before.system)
        return answer

    def figures(self, name: str) -> dict[str, float]:
        ordered = sorted(self.seconds)
        return {
            f"{name}: p50, ms": 1000 * ordered[len(ordered) // 2],
            f"{name}: p95, ms": 1000 * ordered[int(0.95 * (len(ordered) - 1))],
            f"{name}: CPU, ms": 1000 * sum(self.cpu) / len(self.cpu),
        }


async def measure(
    store: Store, settings: ClickHouseSettings, looks: int, label: str
) -> dict[str, float]:
    queries = LimitedQueries(settings, QueryLimits(seconds=300, memory_mb=2_000))
    reader = UnitStatisticsReader(queries)
    server = psutil.Process(store.process.pid)
    turns = {key: one for key, one in BUILT_IN.items() if key in TURN_METRICS}
    whole, by_locale, of_raw = Clock(server), Clock(server), Clock(server)
    request = StatisticsRequest(EXPERIMENT, VARIATIONS, turns)
    split = StatisticsRequest(EXPERIMENT, VARIATIONS, turns, by=BY_LOCALE)
    try:
        found = await reader.of(request)
        check(found, await asyncio.to_thread(raw, store, settings.database))
        for look in range(looks):
            found = await whole.time(lambda: reader.of(request))
            parts = await by_locale.time(lambda: reader.of(split))
            if look % 5 == 0:
                await of_raw.time(lambda: asyncio.to_thread(raw, store, settings.database))
    finally:
        await queries.close()
    return {
        **whole.figures(f"{label}, ten metrics"),
        **by_locale.figures(f"{label}, by locale"),
        **of_raw.figures(f"{label}, raw rows"),
        f"{label}, raw rows / ten metrics, CPU": sum(of_raw.cpu)
        / len(of_raw.cpu)
        / (sum(whole.cpu) / len(whole.cpu)),
        f"{label}, document of both: ms": _assembled(found) + _assembled(parts),
    }


def _assembled(statistics: UnitStatistics) -> float:
    """How long the document takes once the statistics are there, in ms."""
    definition = Definition.model_validate(
        {
            "key": EXPERIMENT,
            "variations": [
                {"key": key, "weight": weight}
                for key, weight in zip(VARIATIONS, (3_334, 3_333, 3_333), strict=True)
            ],
        }
    )
    now = datetime(2026, 5, 12, tzinfo=UTC)
    fresh = FreshnessAnswer(watermark=now, applied_at=now, lag_seconds=0.0)
    began = time.perf_counter()
    subject = Subject(definition, 1, "running", now, fresh, Health())
    report_of(subject, select(definition, {}), statistics).model_dump_json(by_alias=True)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=10, help="how much more units, then")
    parser.add_argument("--looks", type=int, default=40)
    given = parser.parse_args()
    machine = facts()
    figures: dict[str, list[float]] = {}
    with own_clickhouse() as store:
        for units in dict.fromkeys((given.units, given.units * given.times)):
            with store.database(f"units_{units}", ours=True) as settings:
                load(store, settings.database, units, given.turns)
                label = f"{units:,} units"
                for name, value in asyncio.run(
                    measure(store, settings, given.looks, label)
                ).items():
                    figures.setdefault(name, []).append(value)
                    print(f"{name}: {value:.1f}", flush=True)
    notes = [
        f"{given.turns:,} turns of one experiment, 3 variations, 4 locales, {given.looks} looks; "
        "CPU is the server's."
    ]
    keep("reports", "Reports from sums by unit", machine, figures, notes)


if __name__ == "__main__":
    main()
