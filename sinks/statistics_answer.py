"""What the rows of the query of sums say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from analysis.moments import JointMoments
from analysis.unit_statistics import (
    ArmStatistics,
    MetricStatistics,
    StatisticsRequest,
    UnitStatistics,
)
from analysis.verdict import NoVerdict, NoVerdictReason
from sinks.statistics_sql import MOST_SEGMENTS, Known, most_rows
from sinks.unit_columns import Columns, Sum, has_past

NOTHING_BEFORE = NoVerdict(
    NoVerdictReason.NO_COVARIATE,
    "Turns, invites and exposures name a unit only once it is in the experiment, so nothing is "
    "known of its past; outcomes always name it.",
)


class TooManySegmentsError(Exception):
    """What the report is to be split by has too many values."""

    def __init__(self, by: str) -> None:
        super().__init__(
            f"{by} has more than {MOST_SEGMENTS} values in this experiment, and a report is split "
            "into no more; choose a dimension with fewer, or leave `by` out"
        )
        self.by = by


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
    segments = sorted({row.segment for row in placed})
    is_cut = len(answer) >= most_rows(request)
    if request.by is not None and (is_cut or len(segments) > MOST_SEGMENTS):
        raise TooManySegmentsError(request.by)

    def arms(of: Sequence[_Row]) -> dict[str, ArmStatistics]:
        return {
            key: _arm([row for row in of if row.variation == place], columns, known)
            for place, key in enumerate(request.variations, 1)
        }

    by_segment = {
        segment: arms([row for row in placed if row.segment == segment]) for segment in segments
    }
    return UnitStatistics(
        request,
        arms(placed),
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


def _arm(rows: Sequence[_Row], columns: Columns, known: Known) -> ArmStatistics:
    """Of all the rows together: sums about one shift add, and lose less than moments would."""
    units = sum(row.units for row in rows)
    sums = {one: sum(row.sums[one] for row in rows) for one in columns.sums()}
    metrics = {
        key: MetricStatistics(_moments(units, sums, indices, columns, known, columns.is_whole(key)))
        for key, indices in columns.of_metrics.items()
    }
    return ArmStatistics(units, sum(row.exposures for row in rows), metrics)


def _moments(
    units: int,
    sums: Mapping[Sum, float],
    indices: Sequence[int],
    columns: Columns,
    known: Known,
    whole: bool,
) -> JointMoments:
    totals = [sums[Sum(index, None, whole)] for index in indices]
    products = [[sums[Sum(min(i, j), max(i, j), whole)] for j in indices] for i in indices]
    if whole and units:
        return _of_whole_numbers(units, totals, products)
    shifts = [known.shifts.get(index, 0.0) for index in indices]
    rounded = [
        round(shift) if columns.values[index].is_whole else shift
        for index, shift in zip(indices, shifts, strict=True)
    ]
    return JointMoments.from_sums(units, totals, products, rounded)


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


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
