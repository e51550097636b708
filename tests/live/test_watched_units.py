"""What the kill switch reads, against the same numbers made in Python."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import pytest_asyncio

from analysis.metric_catalogue import BUILT_IN, Metric
from analysis.moments import JointMoments
from sinks.clickhouse import ClickHouseUnavailable, connected
from sinks.migrate import migrate
from sinks.settings import ClickHouseSettings
from sinks.watched_units import WatchedUnits
from tests.live.clickhouse_fixture import ClickHouse

EXPERIMENT = "tone"
_SECOND = int(time.time()) - 86_400


class Unit(NamedTuple):
    name: str
    variation: str
    turns: list[int]
    spent: list[float]
    spent_before: float
    joined: int


def _units() -> list[Unit]:
    random = np.random.default_rng(5)
    return [
        Unit(
            f"u{number}",
            str(random.choice(["control", "warm"])),
            [int(n) for n in random.integers(100, 900, random.integers(0, 5))],
            [float(x) for x in random.gamma(2, 3, random.integers(0, 3))],
            100.0,
            int(random.integers(0, 3)),
        )
        for number in range(200)
    ]


UNITS = _units()


@pytest_asyncio.fixture
async def settings(clickhouse: ClickHouse) -> AsyncIterator[ClickHouseSettings]:
    settings = clickhouse.settings.model_copy(update={"database": f"w_{uuid.uuid4().hex[:8]}"})
    await migrate(settings)
    async with connected(settings) as client:
        for table, rows in _rows().items():
            body = "\n".join(json.dumps(row) for row in rows)
            await client.raw_insert(table, insert_block=body, fmt="JSONEachRow")
        yield settings
        await client.command(f"DROP DATABASE {settings.database} SYNC")


def _rows() -> dict[str, list[dict[str, Any]]]:
    """In parts that are not merged, with units that are not to be counted."""
    exposures = [_exposure(unit.name, 3, [unit.variation]) for unit in UNITS]
    exposures += [_exposure(unit.name, 4, [unit.variation], later=5) for unit in UNITS[:50]]
    exposures += [_exposure("earlier", 2, ["warm"]), _exposure("earlier", 3, ["warm"], later=9)]
    exposures += [_exposure("both", 3, ["warm"]), _exposure("both", 3, ["control"], later=9)]
    turns, outcomes, invites = [], [], []
    counted = [
        *UNITS,
        *(Unit(odd, "warm", [9_999], [9_999.0], 1.0, 5) for odd in ("earlier", "both")),
    ]
    for unit in counted:
        reference = {"experiment": EXPERIMENT, "version": 3, "variation": unit.variation}
        reference["unit"] = unit.name
        row = {**reference, "day": _SECOND // 86_400, "n": 1}
        turns += [{**row, "turn_ms_sum": turn_ms} for turn_ms in unit.turns]
        outcomes.append(_outcome(unit.name, -60, {"revenue": unit.spent_before}))
        for number, value in enumerate(unit.spent):
            outcomes.append(_outcome(unit.name, 3_000 * number, {"revenue": value, "net": 1.0}))
        for _ in range(unit.joined):
            row = {"event_id": uuid.uuid4().hex, "ts": _SECOND + 5, "loop": "share"}
            invites.append({**row, "kind": "joined", "exposures": [reference]})
    return {
        "unit_exposures": exposures,
        "unit_metrics": turns,
        "outcomes": outcomes,
        "invites": invites,
    }


def _exposure(unit: str, version: int, variations: list[str], later: int = 0) -> dict[str, Any]:
    first = {"ts": _SECOND + later, "version": version, "variation": variations[0]}
    row = {"experiment": EXPERIMENT, "unit": unit, "variations": variations, "n": 2}
    return {
        **row,
        "first": {**first, "locale": "en", "attributes": []},
        "last_ts": _SECOND + later,
    }


def _outcome(unit: str, later: int, values: dict[str, float]) -> dict[str, Any]:
    pairs = [{"name": name, "value": value} for name, value in values.items()]
    return {"event_id": uuid.uuid4().hex, "ts": _SECOND + later, "unit": unit, "values": pairs}


def _metric(**fields: Any) -> Metric:
    return Metric.model_validate(fields)


REVENUE = {"outcome": "revenue"}


CASES: dict[str, tuple[Metric, Callable[[Unit], list[float]]]] = {
    "turns": (BUILT_IN["turn_ms"], lambda u: [sum(u.turns)]),
    "a count": (BUILT_IN["exposures"], lambda u: [2 + 2 * (u in UNITS[:50])]),
    "invites": (BUILT_IN["invites_joined"], lambda u: [u.joined]),
    "outcomes": (_metric(kind="mean", source=REVENUE), lambda u: [sum(u.spent)]),
    "a cap": (
        _metric(kind="mean", source=REVENUE, cap={"absolute": 4.5}),
        lambda u: [min(4.5, sum(u.spent))],
    ),
    "half an hour": (
        _metric(kind="mean", source=REVENUE, conversion_window_hours=0.5),
        lambda u: [sum(u.spent[:1])],
    ),
    "a proportion": (_metric(kind="proportion", source=REVENUE), lambda u: [float(bool(u.spent))]),
    "a ratio": (
        _metric(kind="ratio", numerator=REVENUE, denominator={"turn": "turn_ms"}),
        lambda u: [sum(u.spent), sum(u.turns)],
    ),
}


async def test_arms_are_those_of_the_units_of_the_watch(settings: ClickHouseSettings) -> None:
    watched = WatchedUnits(settings)
    try:
        for name, (metric, values) in CASES.items():
            found = await watched.arms(EXPERIMENT, 3, metric)
            assert sorted(found) == ["control", "warm"], name
            for variation, moments in found.items():
                rows = [values(unit) for unit in UNITS if unit.variation == variation]
                expected = JointMoments.of(*np.asarray(rows, dtype=float).T)
                assert moments.units == expected.units, name
                np.testing.assert_allclose(moments.means, expected.means, rtol=1e-12)
                np.testing.assert_allclose(moments.products, expected.products, rtol=1e-9)
    finally:
        await watched.close()


async def test_progress_changes_with_every_batch(settings: ClickHouseSettings) -> None:
    watched = WatchedUnits(settings)
    try:
        before = await watched.progress()
        assert await watched.progress() == before
        async with connected(settings) as client:
            batch = {"topic": "t", "partition": 0, "epoch": "e", "first": 0, "last": 1}
            row = json.dumps({**batch, "applied_at": _SECOND})
            await client.raw_insert("batches", insert_block=row, fmt="JSONEachRow")
        assert await watched.progress() != before
    finally:
        await watched.close()


async def test_watched_units_say_that_clickhouse_is_away() -> None:
    watched = WatchedUnits(ClickHouseSettings(url="http://127.0.0.1:9"))
    with pytest.raises(ClickHouseUnavailable):
        await watched.progress()
    await watched.close()
