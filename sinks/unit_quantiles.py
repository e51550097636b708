"""Quantiles of all values, such as the 95th percentile of turn times, with what bounds them.

Two queries each: how the values are distributed, and how many of each unit's values are at most the
quantile. Up to 2,000,000 values the distribution is exact; above, values are counted by bucket
(analysis/sketches.py). Values come from raw rows, whatever their number: sums by unit do not tell
them, and sums by minute do not tell which units they are of.
"""

# ruff: noqa: S608  # names are ours; what people gave is in parameters

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis import quantiles, sketches
from analysis.metric_catalogue import Metric, Source
from analysis.moments import JointMoments
from analysis.unit_statistics import (
    ArmStatistics,
    MetricStatistics,
    Multiple,
    QuantileMethod,
    QuantileStatistics,
    StatisticsRequest,
    UnitStatistics,
)
from analysis.verdict import Interval, NoVerdict, NoVerdictReason
from sinks.statistics_branches import Parameters, place_of
from sinks.statistics_sql import Query, units

NO_VALUES = NoVerdict(
    NoVerdictReason.NO_UNITS, "No unit of a variation has a value yet that a quantile could be of."
)

Ask = Callable[[Query], Awaitable[Sequence[Sequence[Any]]]]
Group = tuple[int, str]
"""A variation's place, and a segment."""


class _Counted(NamedTuple):
    """Over units: how many values, and how many of them are at most the quantile."""

    below: int
    everything: int
    below_below: int
    below_everything: int
    everything_everything: int
    most: int
    """Of one unit."""


@dataclass(frozen=True, slots=True)
class _Values:
    """All values of one group."""

    codes: npt.NDArray[Any]
    """Values, or buckets, each once and in order."""
    seen: npt.NDArray[np.int64]
    """How many values there are up to each."""
    smallest: float
    greatest: float
    bucketed: bool

    @property
    def number(self) -> int:
        return int(self.seen[-1])

    def at_share(self, share: float) -> float:
        """The value at the rank ceil(share * number), as in `analysis.sketches`."""
        if not self.bucketed:
            return self.at_rank(max(1, math.ceil(share * self.number)))
        found = sketches.quantile(self._histogram(), share, self.smallest, self.greatest)
        assert found is not None
        return found

    def at_rank(self, rank: int) -> float:
        return float(self.codes[np.searchsorted(self.seen, rank)])

    def between(self, shares: Interval) -> Interval:
        if self.bucketed:
            return quantiles.ends_in_histogram(
                self._histogram(), shares, self.smallest, self.greatest
            )
        low, high = quantiles.ranks_of_shares(shares, self.number)
        return Interval(self.at_rank(low), self.at_rank(high))

    def _histogram(self) -> dict[int, int]:
        counts = np.diff(self.seen, prepend=0)
        return {int(code): int(count) for code, count in zip(self.codes, counts, strict=True)}


async def with_quantiles(ask: Ask, statistics: UnitStatistics, most_exact: int) -> UnitStatistics:
    """The statistics, with the request's quantiles in every arm."""
    request = statistics.request
    wanted = {key: one for key, one in request.metrics.items() if one.kind == "quantile"}
    arms, segments = dict(statistics.arms), dict(statistics.segments)
    for key, metric in wanted.items():
        bucketed = await _number(ask, request, metric) > most_exact
        whole = await _found(ask, replace(request, by=None), metric, arms, {}, bucketed)
        arms = _joined(key, request, arms, whole, "")
        if request.by is not None:
            parts = await _found(ask, request, metric, {}, segments, bucketed)
            segments = {
                segment: _joined(key, request, of, parts, segment)
                for segment, of in segments.items()
            }
    return replace(statistics, arms=arms, segments=segments)


async def _number(ask: Ask, request: StatisticsRequest, metric: Metric) -> int:
    """How many values there may be; a few too many where units are left out."""
    given = Parameters(request)
    source = _source(metric)
    if source.turn is not None:
        text = "SELECT sum(n) FROM unit_metrics WHERE experiment = {experiment:String}"
    elif source.outcome is not None:
        name = given.text(source.outcome)
        text = f"SELECT sum(countEqual(values.name, {name})) FROM outcomes"
    else:
        return 0
    return int((await ask(Query(text, given.values)))[0][0])


async def _found(
    ask: Ask,
    request: StatisticsRequest,
    metric: Metric,
    arms: Mapping[str, ArmStatistics],
    segments: Mapping[str, Mapping[str, ArmStatistics]],
    bucketed: bool,
) -> dict[Group, QuantileStatistics | NoVerdict]:
    source, q = _source(metric), metric.q
    assert q is not None
    if source.turn is None and source.outcome is None:
        return {}
    distributions = await _distributions(ask, request, metric, bucketed)
    at = {group: values.at_share(q) for group, values in distributions.items()}
    found: dict[Group, QuantileStatistics | NoVerdict] = {}
    for group, counted in (await _counted(ask, request, metric, at)).items():
        place, segment = group
        of = arms if request.by is None else segments.get(segment)
        # What came between two of the queries may be in a group that was not there before.
        if of is not None and group in distributions:
            arm_units = of[request.variations[place - 1]].units
            found[group] = _bounded(
                distributions[group], at[group], counted, arm_units, q, request.level
            )
    return found


def _bounded(
    values: _Values, at: float, counted: _Counted, arm_units: int, q: float, level: float
) -> QuantileStatistics | NoVerdict:
    if counted.most == 1 and not values.bucketed:
        ranks = quantiles.exact_ranks(values.number, q, level)
        if isinstance(ranks, NoVerdict):
            return ranks
        ends = Interval(values.at_rank(ranks.low), values.at_rank(ranks.high))
        method = QuantileMethod.ORDER_STATISTICS
        return QuantileStatistics(at, values.number, ends, ranks.coverage, method)
    n, below, everything = max(arm_units, 1), counted.below, counted.everything
    across = (n * counted.below_everything - below * everything) / n
    moments = JointMoments(
        n,
        (below / n, everything / n),
        (
            ((n * counted.below_below - below * below) / n, across),
            (across, (n * counted.everything_everything - everything * everything) / n),
        ),
    )
    shares = quantiles.clustered_shares(moments, q, level)
    if isinstance(shares, NoVerdict):
        return shares
    method = QuantileMethod.CLUSTERED_HISTOGRAM if values.bucketed else QuantileMethod.CLUSTERED
    return QuantileStatistics(at, values.number, values.between(shares), level, method)


async def _distributions(
    ask: Ask, request: StatisticsRequest, metric: Metric, bucketed: bool
) -> dict[Group, _Values]:
    given = Parameters(request)
    counted = sketches.bucket_sql("x") if bucketed else "x"
    rows = await ask(
        Query(
            f"SELECT variation, segment, {counted} AS counted, count(), min(x), max(x) "
            f"FROM ({_values(request, metric, given)}) GROUP BY variation, segment, counted",
            given.values,
        )
    )
    groups: dict[Group, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        groups[row[0], row[1]].append(row)
    return {group: _values_of(of, bucketed) for group, of in groups.items()}


def _values_of(rows: Sequence[Sequence[Any]], bucketed: bool) -> _Values:
    codes, counts = np.asarray([row[2] for row in rows]), np.asarray([row[3] for row in rows])
    order = np.argsort(codes)
    smallest, greatest = min(row[4] for row in rows), max(row[5] for row in rows)
    seen = np.cumsum(counts[order], dtype=np.int64)
    return _Values(codes[order], seen, float(smallest), float(greatest), bucketed)


async def _counted(
    ask: Ask, request: StatisticsRequest, metric: Metric, at: Mapping[Group, float]
) -> dict[Group, _Counted]:
    if not at:
        return {}
    given = Parameters(request)
    given.values["groups"] = [f"{place}:{segment}" for place, segment in at]
    given.values["limits"] = list(at.values())
    limit = (
        "{limits:Array(Float64)}[indexOf({groups:Array(String)}, "
        "concat(toString(variation), ':', segment))]"
    )
    of_units = (
        f"SELECT variation, segment, countIf(x <= {limit}) AS below, count() AS everything "
        f"FROM ({_values(request, metric, given)}) GROUP BY variation, segment, unit_hash"
    )
    rows = await ask(
        Query(
            "SELECT variation, segment, sum(below), sum(everything), sum(below * below), "
            "sum(below * everything), sum(everything * everything), max(everything) "
            f"FROM ({of_units}) GROUP BY variation, segment",
            given.values,
        )
    )
    return {(row[0], row[1]): _Counted._make(row[2:]) for row in rows}


def _values(request: StatisticsRequest, metric: Metric, given: Parameters) -> str:
    """A row for each value: variation, segment, unit_hash, x."""
    source, same = _source(metric), ""
    if source.turn is not None:
        events = (
            f"SELECT exposed.4 AS unit, {place_of('exposed.3')} AS place, ts, {source.turn} AS x "
            "FROM turn_metrics ARRAY JOIN exposures AS exposed "
            "WHERE exposed.1 = {experiment:String}"
        )
        if request.multiple is Multiple.BOTH:
            same = "AND event.place = cohort.variation "
    else:
        name = given.text(str(source.outcome))
        events = (
            f"SELECT unit, ts, arrayJoin(arrayFilter(v -> v.1 = {name}, values)).2 AS x "
            "FROM outcomes"
        )
    within = "1"
    if source.turn is None or metric.conversion_window_hours is not None:
        within = "event.ts >= cohort.since"
    if metric.conversion_window_hours is not None:
        window_ms = round(metric.conversion_window_hours * 3_600_000)
        within += f" AND event.ts < cohort.since + toIntervalMillisecond({window_ms})"
    return (
        "SELECT cohort.variation AS variation, cohort.segment AS segment, "
        f"cohort.unit_hash AS unit_hash, event.x AS x FROM ({events}) AS event INNER JOIN "
        f"(SELECT * FROM ({units(request, given)}) WHERE variation > 0) AS cohort "
        f"ON cityHash64(event.unit) = cohort.unit_hash WHERE {within} {same}"
    )


def _joined(
    key: str,
    request: StatisticsRequest,
    arms: Mapping[str, ArmStatistics],
    found: Mapping[Group, QuantileStatistics | NoVerdict],
    segment: str,
) -> dict[str, ArmStatistics]:
    source = _source(request.metrics[key])
    # Invites and exposures have no values but 1.
    nothing = quantiles.VALUE_TIED if source.invite or source.exposures else NO_VALUES
    answer = {}
    for place, variation in enumerate(request.variations, 1):
        arm = arms[variation]
        moments = JointMoments(arm.units, (), ())
        of = found.get((place, segment), nothing)
        metrics = {**arm.metrics, key: MetricStatistics(moments, of)}
        answer[variation] = ArmStatistics(arm.units, arm.exposures, metrics)
    return answer


def _source(metric: Metric) -> Source:
    assert metric.source is not None
    return metric.source
