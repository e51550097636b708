"""What the rows of the query of sums say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any, NamedTuple

from analysis.moments import JointMoments
from analysis.unit_statistics import (
    ArmStatistics,
    MetricStatistics,
    StatisticsRequest,
    UnitStatistics,
)
from analysis.verdict import NoVerdict, NoVerdictReason
from sinks.statistics_sql import Known
from sinks.unit_columns import Columns, Sum, has_past

MOST_SEGMENTS = 200
NOTHING_BEFORE = NoVerdict(
    NoVerdictReason.NO_COVARIATE,
    "Turns, invites and exposures name a unit only once it is in the experiment, so nothing is "
    "known of its past; outcomes always name it.",
)


class TooManySegmentsError(Exception):
    """What the report is to be split by has too many values."""

    def __init__(self, by: str, segments: int) -> None:
        super().__init__(
            f"{by} has {segments:,} values in this experiment, and a report is split into at most "
            f"{MOST_SEGMENTS}; choose a dimension with fewer, or leave `by` out"
        )
        self.by, self.segments = by, segments


class _Row(NamedTuple):
    variation: int
    segment: str
    units: int
    exposures: int
    saw_several: int
    first_ms: int
    last_ms: int
    sums: Mapping[Sum, float]


def gathered(
    request: StatisticsRequest, columns: Columns, known: Known, answer: Sequence[Sequence[Any]]
) -> UnitStatistics:
    wanted = columns.sums()
    rows = [_Row._make([*row[:7], dict(zip(wanted, row[7:], strict=True))]) for row in answer]
    placed = [row for row in rows if row.variation > 0]
    segments = {row.segment for row in placed}
    if request.by is not None and len(segments) > MOST_SEGMENTS:
        raise TooManySegmentsError(request.by, len(segments))
    arms: dict[str, dict[str, list[ArmStatistics]]] = defaultdict(lambda: defaultdict(list))
    for row in placed:
        variation = request.variations[row.variation - 1]
        arms[row.segment][variation].append(_arm(row, columns, known))
    nothing = _nothing(columns)
    by_segment = {
        segment: {key: reduce(_both, arms[segment][key], nothing) for key in request.variations}
        for segment in sorted(segments)
    }
    everything = {
        key: reduce(_both, [arms[key] for arms in by_segment.values()], nothing)
        for key in request.variations
    }
    return UnitStatistics(
        request,
        everything,
        by_segment if request.by is not None else {},
        multiple_exposures=sum(row.saw_several for row in rows),
        caps={
            name: known.caps[index] for name, index in columns.caps.items() if index in known.caps
        },
        first_exposure=_moment(min((row.first_ms for row in placed), default=None)),
        last_first_exposure=_moment(max((row.last_ms for row in placed), default=None)),
        without_past={
            key: NOTHING_BEFORE for key in columns.of_metrics if not has_past(request.metrics[key])
        },
    )


def _arm(row: _Row, columns: Columns, known: Known) -> ArmStatistics:
    metrics = {
        key: MetricStatistics(_moments(row, indices, columns, known, columns.is_whole(key)))
        for key, indices in columns.of_metrics.items()
    }
    return ArmStatistics(row.units, row.exposures, metrics)


def _moments(
    row: _Row, indices: Sequence[int], columns: Columns, known: Known, whole: bool
) -> JointMoments:
    totals = [row.sums[Sum(index, None, whole)] for index in indices]
    products = [[row.sums[Sum(min(i, j), max(i, j), whole)] for j in indices] for i in indices]
    if whole:
        return _of_whole_numbers(row.units, totals, products)
    shifts = [known.shifts.get(index, 0.0) for index in indices]
    rounded = [
        round(shift) if columns.values[index].is_whole else shift
        for index, shift in zip(indices, shifts, strict=True)
    ]
    return JointMoments.from_sums(row.units, totals, products, rounded)


def _of_whole_numbers(
    units: int, totals: Sequence[Any], products: Sequence[Sequence[Any]]
) -> JointMoments:
    """Deviations by Python's integers, so that nothing is lost however large the values are."""
    return JointMoments(
        units,
        tuple(total / units for total in totals),
        tuple(
            tuple(
                (units * product - left * right) / units
                for product, right in zip(row, totals, strict=True)
            )
            for row, left in zip(products, totals, strict=True)
        ),
    )


def _nothing(columns: Columns) -> ArmStatistics:
    return ArmStatistics(
        0,
        0,
        {
            key: MetricStatistics(
                JointMoments.from_sums(
                    0, [0.0] * len(indices), [[0.0] * len(indices)] * len(indices)
                )
            )
            for key, indices in columns.of_metrics.items()
        },
    )


def _both(left: ArmStatistics, right: ArmStatistics) -> ArmStatistics:
    return ArmStatistics(
        left.units + right.units,
        left.exposures + right.exposures,
        {
            key: MetricStatistics(one.moments + right.metrics[key].moments)
            for key, one in left.metrics.items()
        },
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
