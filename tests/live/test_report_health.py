"""What the health of a report is read from, against the same counted in Python."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pytest_asyncio

from anabranch.encoding import Encoder
from anabranch.events import Exposure, ExposureRef, TurnMetric
from analysis.health import DeadLetters, Name, Verdict
from analysis.health_summary import data_health
from analysis.metric_catalogue import BUILT_IN
from analysis.moments import JointMoments
from schemas.topics import EXPOSURES, TURN_METRICS
from sinks.clickhouse import connected
from sinks.health_sql import MOST_SEGMENTS, OTHER_SEGMENTS
from sinks.limited_queries import LimitedQueries
from sinks.migrate import migrate
from sinks.report_health import (
    MOST_LETTERS,
    HealthQuestion,
    ReportHealth,
)
from sinks.settings import ClickHouseSettings
from tests.live.clickhouse_fixture import ClickHouse

KEY = "tone"
TODAY = datetime.now(UTC).date()
_BEGAN = TODAY - timedelta(days=10)


class Unit(NamedTuple):
    name: str
    day: date
    locale: str
    variation: str
    turns: list[tuple[date, int]]


def _units() -> list[Unit]:
    random = np.random.default_rng(3)
    found = []
    for number in range(300):
        day = _BEGAN + timedelta(days=int(random.integers(0, 10)))
        turns = [
            (day + timedelta(days=int(random.integers(0, 9))), int(random.integers(1, 100)))
            for _ in range(int(random.integers(0, 6)))
        ]
        variation, locale = str(random.choice(["control", "warm"])), str(random.choice(["en", ""]))
        found.append(Unit(f"u{number}", day, locale, variation, turns))
    return found


UNITS = _units()


def _seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp())


@pytest_asyncio.fixture
async def settings(clickhouse: ClickHouse) -> AsyncIterator[ClickHouseSettings]:
    settings = clickhouse.settings.model_copy(update={"database": f"h_{uuid.uuid4().hex[:8]}"})
    await migrate(settings)
    async with connected(settings) as client:
        for table, rows in _rows().items():
            body = "\n".join(map(json.dumps, rows))
            await client.raw_insert(table, insert_block=body, fmt="JSONEachRow")
        for number, (topic, reason, value) in enumerate(_letters()):
            await client.command(
                "INSERT INTO dead_letters (topic, partition, epoch, offset, reason, value, "
                f"timestamp, died_at) VALUES ('{topic}', 0, 'life', {number}, '{reason}', "
                f"unhex('{value.hex()}'), now64(3), now64(3))"
            )
        yield settings
        await client.command(f"DROP DATABASE {settings.database} SYNC")


@pytest_asyncio.fixture
async def health(settings: ClickHouseSettings) -> AsyncIterator[ReportHealth]:
    queries = LimitedQueries(settings)
    yield ReportHealth(queries)
    await queries.close()


def _rows() -> dict[str, list[dict[str, Any]]]:
    exposures = [_exposure(unit, [unit.variation]) for unit in UNITS]
    exposures += [_exposure(unit, ["warm", "control"]) for unit in UNITS[:7]]
    own = {"experiment": KEY, "version": 1, "n": 1}
    turns = [
        {**own, "day": str(day), "variation": unit.variation, "unit": unit.name, "turn_ms_sum": ms}
        for unit in UNITS
        for day, ms in unit.turns
    ]
    window = {"topic": EXPOSURES.name, "applied_at": int(time.time())}
    late = [
        {**window, "window": _seconds(TODAY - timedelta(days=1)), "events": 5},
        {**window, "window": _seconds(_BEGAN - timedelta(days=9)), "events": 900},
    ]
    batch = {"partition": 0, "epoch": "life", "last": 9, "applied_at": int(time.time())}
    at = {"min_ts": _seconds(TODAY), "max_ts": _seconds(TODAY)}
    batches = [{**batch, **at, "topic": EXPOSURES.name, "first": n, "rows": 50} for n in (0, 9)]
    marks = {"topic": EXPOSURES.name, "partition": 0, "epoch": "life", "offset": 1}
    return {
        "unit_exposures": exposures,
        "unit_metrics": turns,
        "restatements": late,
        "batches": batches,
        "dead_letter_marks": [{**marks, "mark": "applied", "marked_at": int(time.time())}],
    }


def _exposure(unit: Unit, variations: list[str]) -> dict[str, Any]:
    attributes = [{"name": "plan", "value": "paid"}] if unit.locale else []
    first = {"ts": _seconds(unit.day), "version": 1, "variation": unit.variation}
    row = {"experiment": KEY, "unit": unit.name, "variations": variations, "n": 2}
    first |= {"locale": unit.locale, "attributes": attributes}
    return {**row, "first": first, "last_ts": _seconds(unit.day)}


def _exposure_bytes(experiment: str) -> bytes:
    event = Exposure(exposure_id="x", experiment=experiment, version=1, variation="warm", unit="u")
    return Encoder(Exposure, 77).encode(event)[1]


def _letters() -> list[tuple[str, str, bytes]]:
    """Of topic, reason and bytes."""

    counts: dict[str, Any] = dict.fromkeys(
        ("turn_ms", "model_ms", "bundle_tokens", "output_tokens"), 1
    )
    counts |= dict.fromkeys(("retries", "fallbacks", "tool_calls"), 1)
    counts |= dict.fromkeys(("acts", "choices", "time_ticks"), 1)
    reference = ExposureRef(experiment=KEY, version=1, variation="warm", unit="u")
    turn = TurnMetric(session="s", player="p", exposures=(reference,), **counts)
    return [
        (EXPOSURES.name, "invalid", _exposure_bytes(KEY)),
        (EXPOSURES.name, "invalid", _exposure_bytes(KEY)),  # marked as applied
        (EXPOSURES.name, "invalid", _exposure_bytes("another")),
        (EXPOSURES.name, "time_out_of_range", _exposure_bytes(f"{KEY}_2")),
        (TURN_METRICS.name, "refused_by_store", Encoder(TurnMetric, 5).encode(turn)[1]),
        (EXPOSURES.name, "truncated", _exposure_bytes(KEY)[:9]),
        ("outcomes.v1", "invalid", b"whatever"),
    ]


async def test_observed_is_what_the_tables_hold(health: ReportHealth) -> None:
    metrics = {"turn_ms": BUILT_IN["turn_ms"], "exposures": BUILT_IN["exposures"]}
    seen = await health.of(HealthQuestion(KEY, metrics, TODAY))
    by_plan = await health.of(HealthQuestion(KEY, {}, TODAY, by="plan"))
    since = datetime.now(UTC) - timedelta(days=4)
    late = await health.of(HealthQuestion(KEY, {}, TODAY, since=since, until=since))

    arrived = Counter((unit.day, unit.locale, unit.variation) for unit in UNITS)
    assert arrived == {
        (one.day, one.segment, variation): units
        for one in seen.arrivals
        for variation, units in one.units.items()
    }
    assert (seen.units, seen.in_several) == (300, 7)
    assert seen.exposures == 2 * 307
    assert (seen.late, seen.events) == (5, 100)
    assert seen.dead == DeadLetters(
        of_experiment=1,
        unreadable=2,
        turns=1,
        turns_stored=sum(len(unit.turns) for unit in UNITS),
    )
    assert {one.segment for one in by_plan.arrivals} == {"paid", ""}
    assert late.units == 0

    assert list(seen.lasting) == ["turn_ms"]
    for variation, moments in seen.lasting["turn_ms"].items():
        rows = [_lasting(u) for u in UNITS if u.variation == variation and _is_early(u)]
        expected = JointMoments.of(*np.asarray(rows, dtype=float).T)
        assert moments.units == expected.units
        np.testing.assert_allclose(moments.means, expected.means, rtol=1e-12)
        np.testing.assert_allclose(moments.products, expected.products, rtol=1e-9)

    found = data_health(seen, {1: {"control": 0.5, "warm": 0.5}}, "control", 0.5)
    (letters,) = found.of(Name.DEAD_LETTERS)
    assert letters.verdict is Verdict.WARNING
    assert [one.name for one in found.findings] == [
        *(Name.SAMPLE_RATIO, Name.MULTIPLE_EXPOSURES, Name.LATE_EVENTS),
        *(Name.DEAD_LETTERS, Name.FRESHNESS, Name.NOVELTY),
    ]


def _is_early(unit: Unit) -> bool:
    return unit.day < TODAY - timedelta(days=3) and unit not in UNITS[:7]


def _lasting(unit: Unit) -> tuple[float, float]:
    then = unit.day + timedelta(days=3)
    first = sum(value for day, value in unit.turns if day < then)
    later = sum(value for day, value in unit.turns if then <= day < TODAY)
    return later / (TODAY - then).days, first / 3


async def test_observed_is_nothing_where_nobody_came(health: ReportHealth) -> None:
    seen = await health.of(HealthQuestion("nobody", BUILT_IN, TODAY))
    assert (seen.units, seen.in_several, seen.exposures) == (0, 0, 0)
    assert data_health(seen, {}, "control", None).problems == ()


async def test_dead_letters_are_estimated_from_a_sample_when_there_are_very_many(
    settings: ClickHouseSettings, health: ReportHealth
) -> None:
    """Three of four have the key of the experiment, a quarter of them as a part of another's."""
    values = [_exposure_bytes(key) for key in (KEY, KEY, f"{KEY}_2", "another")]
    many = 4 * 3 * MOST_LETTERS
    async with connected(settings) as client:
        await client.command(
            "INSERT INTO dead_letters (topic, partition, epoch, offset, reason, value, timestamp, "
            f"died_at) SELECT '{EXPOSURES.name}', 1, 'life', number, 'invalid', unhex("
            f"[{', '.join(repr(value.hex()) for value in values)}][1 + number % 4]), now64(3), "
            f"now64(3) FROM numbers({many})"
        )
    seen = await health.of(HealthQuestion(KEY, {}, TODAY))
    assert abs(seen.dead.of_experiment - many / 2) < 0.1 * many
    assert data_health(seen, {}, "control", 0.5).of(Name.DEAD_LETTERS)[0].verdict is Verdict.BAD


async def test_smaller_segments_are_counted_together_when_there_are_very_many(
    settings: ClickHouseSettings, health: ReportHealth
) -> None:
    first = {"ts": _seconds(TODAY), "version": 1, "variation": "warm", "attributes": []}
    rows = [
        {
            "experiment": "wide",
            "unit": f"u{n}",
            "variations": ["warm"],
            "n": 1,
            "first": {**first, "locale": f"l{n % 300}"},
            "last_ts": _seconds(TODAY),
        }
        for n in range(700)
    ]
    async with connected(settings) as client:
        body = "\n".join(map(json.dumps, rows))
        await client.raw_insert("unit_exposures", insert_block=body, fmt="JSONEachRow")
    seen = await health.of(HealthQuestion("wide", {}, TODAY))
    sizes = {one.segment: one.units["warm"] for one in seen.arrivals}
    assert len(sizes) == MOST_SEGMENTS + 1
    assert sizes[OTHER_SEGMENTS] == 2 * (300 - MOST_SEGMENTS)
    assert seen.units == 700
