"""What the engine adds up of units, against the same from the events in plain Python."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from analysis.metric_catalogue import BUILT_IN, Cap, InviteSource, Metric, Source
from analysis.moments import JointMoments
from analysis.quantiles import Ranks, clustered_shares, exact_ranks, ranks_of_shares
from analysis.unit_statistics import (
    ArmStatistics,
    Multiple,
    QuantileMethod,
    QuantileStatistics,
    StatisticsRequest,
)
from analysis.verdict import Interval, NoVerdict, NoVerdictReason
from sinks.limited_queries import LimitedQueries, QueryLimitError, QueryLimits
from sinks.migrate import migrate
from sinks.settings import ClickHouseSettings
from sinks.unit_statistics import TooManySegmentsError, UnitStatisticsReader
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.measured_units import EXPERIMENT, START, Events, made_up, store
from tests.live.unit_truth import Truth, centred

REVENUE = Source(outcome="revenue")
TURN = Source(turn="turn_ms")
METRICS: Mapping[str, Metric] = {
    **BUILT_IN,
    "revenue": Metric(kind="mean", source=REVENUE),
    "revenue_capped": Metric(kind="mean", source=REVENUE, cap=Cap(absolute=12.5)),
    "revenue_cut": Metric(kind="mean", source=REVENUE, cap=Cap(percentile=0.9)),
    "revenue_day": Metric(kind="mean", source=REVENUE, conversion_window_hours=24),
    "payments": Metric(kind="count", source=REVENUE),
    "bought": Metric(kind="proportion", source=REVENUE, conversion_window_hours=48.5),
    "won": Metric(kind="proportion", source=Source(outcome="won")),
    "level": Metric(kind="mean", source=Source(outcome="level")),
    "turn_ms_cut": Metric(kind="mean", source=TURN, cap=Cap(percentile=0.95)),
    "turn_ms_day": Metric(kind="mean", source=TURN, conversion_window_hours=24),
    "any_turn": Metric(kind="proportion", source=TURN),
    "turns": Metric(kind="count", source=TURN),
    "retries_per_tick": Metric(
        kind="ratio", numerator=Source(turn="retries"), denominator=Source(turn="time_ticks")
    ),
    "revenue_per_level": Metric(
        kind="ratio", numerator=REVENUE, denominator=Source(outcome="level")
    ),
    "revenue_per_ms": Metric(kind="ratio", numerator=REVENUE, denominator=TURN),
    "guild_joined": Metric(
        kind="count", source=Source(invite=InviteSource(step="joined", loop="guild"))
    ),
    "sent_day": Metric(
        kind="count", source=Source(invite=InviteSource(step="sent")), conversion_window_hours=24
    ),
    "exposures_hour": Metric(
        kind="count", source=Source(exposures=True), conversion_window_hours=1
    ),
}
VARIATIONS = ("control", "warm", "cold")


@pytest.fixture(scope="module")
def events() -> Events:
    return made_up(600)


@pytest_asyncio.fixture(scope="module")
async def settings(clickhouse: ClickHouse, events: Events) -> ClickHouseSettings:
    settings = clickhouse.settings.model_copy(update={"database": "unit_statistics"})
    await migrate(settings)
    await store(settings, events)
    return settings


@pytest_asyncio.fixture(scope="module")
async def queries(settings: ClickHouseSettings) -> AsyncIterator[LimitedQueries]:
    queries = LimitedQueries(settings)
    yield queries
    await queries.close()


@pytest.fixture(scope="module")
def reader(queries: LimitedQueries) -> UnitStatisticsReader:
    return UnitStatisticsReader(queries)


def request(**fields: Any) -> StatisticsRequest:
    return StatisticsRequest(EXPERIMENT, VARIATIONS, METRICS, **fields)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(request(), id="all units"),
        pytest.param(request(by="locale"), id="by locale"),
        pytest.param(request(by="tier"), id="by a dimension"),
        pytest.param(request(multiple=Multiple.FIRST), id="as first seen"),
        pytest.param(request(multiple=Multiple.FIRST, by="tier"), id="as first seen, by tier"),
        pytest.param(request(multiple=Multiple.BOTH, by="locale"), id="kept in both"),
        pytest.param(
            request(since=START + timedelta(days=2), until=START + timedelta(days=5, hours=7)),
            id="of a period",
        ),
        pytest.param(request(versions=(1, 1), by="locale"), id="of a version"),
        pytest.param(request(versions=(2, 9)), id="of versions that were nobody's first"),
    ],
)
async def test_statistics_are_those_of_the_events(
    reader: UnitStatisticsReader, events: Events, asked: StatisticsRequest
) -> None:
    found, truth = await reader.of(asked), Truth(events, asked)
    assert found.multiple_exposures == truth.multiple_exposures
    assert sum(found.unknown_variations.values()) == truth.unknown
    for variation in VARIATIONS:
        units = truth.arm(variation)
        same(found.arms[variation], truth, variation, units)
        assert list(found.segments) == (truth.segments if asked.by else [])
        for segment, arms in found.segments.items():
            of_segment = [unit for unit in units if truth.segment(unit) == segment]
            same(arms[variation], truth, variation, of_segment)


def same(arm: ArmStatistics, truth: Truth, variation: str, units: list[str]) -> None:
    assert arm.units == len(units)
    assert arm.exposures == truth.exposures(units)
    for key, metric in METRICS.items():
        moments = arm.metrics[key].moments
        assert moments.units == len(units)
        if units:
            means, products = centred(truth.columns(metric, units, variation))
            # Products of what hardly goes together are small beside what they are made of.
            size = np.sqrt(np.outer(np.diag(products), np.diag(products)))
            assert moments.means == pytest.approx(means, rel=1e-9, abs=1e-9), key
            off = np.abs(np.asarray(moments.products) - products)
            assert np.all(off <= 1e-9 * size + 1e-12), key


async def test_statistics_name_the_cap_that_a_percentile_came_to(
    reader: UnitStatisticsReader, events: Events
) -> None:
    asked = request()
    found, truth = await reader.of(asked), Truth(events, asked)
    plain = [
        value
        for key in VARIATIONS
        for value in truth.columns(METRICS["revenue"], truth.arm(key), key)[0]
    ]
    assert found.caps["revenue_cut"] == pytest.approx(sorted(plain)[int(0.9 * len(plain))])


QUANTILES: Mapping[str, Metric] = {
    "turn_ms_p90": Metric(kind="quantile", source=TURN, q=0.9),
    "turn_ms_p90_day": Metric(kind="quantile", source=TURN, q=0.9, conversion_window_hours=24),
    "level_median": Metric(kind="quantile", source=Source(outcome="level"), q=0.5),
    "revenue_p75": Metric(kind="quantile", source=REVENUE, q=0.75),
}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"by": "locale"}, id="by locale"),
        pytest.param({"multiple": Multiple.BOTH}, id="kept in both"),
        pytest.param({"multiple": Multiple.FIRST, "since": START + timedelta(days=4)}, id="first"),
    ],
)
async def test_quantiles_are_those_of_all_values(
    reader: UnitStatisticsReader, events: Events, fields: dict[str, Any]
) -> None:
    asked = StatisticsRequest(EXPERIMENT, VARIATIONS[:2], QUANTILES, **fields)
    found, truth = await reader.of(asked), Truth(events, asked)
    for variation in asked.variations:
        everyone = truth.arm(variation)
        check_quantiles(found.arms[variation], truth, variation, everyone)
        for segment, arms in found.segments.items():
            units = [unit for unit in everyone if truth.segment(unit) == segment]
            check_quantiles(arms[variation], truth, variation, units)


def check_quantiles(arm: ArmStatistics, truth: Truth, variation: str, units: list[str]) -> None:
    for key, metric in QUANTILES.items():
        assert metric.source
        assert metric.q
        seen = arm.metrics[key].quantile
        by_unit = [truth.values(metric, metric.source, unit, variation) for unit in units]
        values = sorted(value for of_unit in by_unit for value in of_unit)
        at = values[math.ceil(metric.q * len(values)) - 1]
        if max(map(len, by_unit)) == 1:
            ranks = exact_ranks(len(values), metric.q)
            assert isinstance(ranks, Ranks)
            bounds, method = (ranks.low, ranks.high), QuantileMethod.ORDER_STATISTICS
        else:
            below = [sum(value <= at for value in of_unit) for of_unit in by_unit]
            shares = clustered_shares(JointMoments.of(below, list(map(len, by_unit))), metric.q)
            if isinstance(shares, NoVerdict):
                assert seen == shares
                continue
            bounds, method = ranks_of_shares(shares, len(values)), QuantileMethod.CLUSTERED
        assert isinstance(seen, QuantileStatistics), key
        assert (seen.values, seen.value, seen.method) == (len(values), at, method)
        assert seen.ends == Interval(values[bounds[0] - 1], values[bounds[1] - 1])


async def test_quantiles_of_many_values_are_within_the_width_of_a_bucket(
    queries: LimitedQueries, reader: UnitStatisticsReader
) -> None:
    # All of `level` is in one bucket, so nothing can be told of it then.
    wide = {key: one for key, one in QUANTILES.items() if key != "level_median"}
    asked = StatisticsRequest(EXPERIMENT, VARIATIONS[:2], wide)
    exact = await reader.of(asked)
    counted = await UnitStatisticsReader(queries, exact_values=100).of(asked)
    for key in wide:
        for variation in asked.variations:
            near = counted.arms[variation].metrics[key].quantile
            true = exact.arms[variation].metrics[key].quantile
            assert isinstance(near, QuantileStatistics)
            assert isinstance(true, QuantileStatistics)
            assert near.method is QuantileMethod.CLUSTERED_HISTOGRAM
            assert near.value == pytest.approx(true.value, rel=0.01)
            assert near.ends.low <= near.value <= near.ends.high


async def test_quantiles_of_what_is_always_one_are_tied(reader: UnitStatisticsReader) -> None:
    ones = {"exposures": Metric(kind="quantile", source=Source(exposures=True), q=0.5)}
    found = await reader.of(StatisticsRequest(EXPERIMENT, VARIATIONS[:2], ones))
    tied = found.arms["warm"].metrics["exposures"].quantile
    assert isinstance(tied, NoVerdict)
    assert tied.reason is NoVerdictReason.VALUE_TIED


async def test_statistics_have_all_variations_and_no_units_when_nobody_came(
    reader: UnitStatisticsReader,
) -> None:
    found = await reader.of(StatisticsRequest("nobody", VARIATIONS, METRICS, by="locale"))
    assert {key: arm.units for key, arm in found.arms.items()} == dict.fromkeys(VARIATIONS, 0)
    assert found.segments == {}
    assert found.first_exposure is None


async def test_reader_refuses_a_dimension_with_too_many_values(
    settings: ClickHouseSettings, reader: UnitStatisticsReader
) -> None:
    many = made_up(500, seed=9)
    for number, one in enumerate(many.exposures):
        one |= {"experiment": "many", "attributes": [{"name": "id", "value": str(number)}]}
    await store(settings, Events(exposures=many.exposures))
    asked = StatisticsRequest("many", VARIATIONS, {"turn_ms": BUILT_IN["turn_ms"]}, by="id")
    with pytest.raises(TooManySegmentsError, match="id has"):
        await reader.of(asked)


@pytest.mark.parametrize(
    ("limits", "limit", "sentence"),
    [
        pytest.param(QueryLimits(seconds=0.001), "time", "longer than 0.001 s", id="time"),
        pytest.param(QueryLimits(memory_mb=0.05), "memory", "more than 0.05 MB", id="memory"),
    ],
)
async def test_reader_says_which_limit_a_query_met(
    settings: ClickHouseSettings, limits: QueryLimits, limit: str, sentence: str
) -> None:
    queries = LimitedQueries(settings, limits)
    try:
        with pytest.raises(QueryLimitError, match=sentence) as raised:
            await UnitStatisticsReader(queries).of(request(by="locale"))
        assert raised.value.limit == limit
    finally:
        await queries.close()
