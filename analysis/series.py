"""How did a result settle, and does it wear off?

From what each step adds to the sums over units: the value of each variation with all units and all
that they did up to the end of the step, and its effect with an always-valid interval, since the
whole series is looked at. By days since exposure, each day stands for itself: what units did on
their first day, on their second, of those units that have lived through it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from numbers import Rational
from typing import NamedTuple

from analysis.estimates import NO_UNITS, NOT_FINITE, Estimate, mean
from analysis.metric_catalogue import Kind
from analysis.moments import JointMoments
from analysis.ratios import ratio
from analysis.sequential import AlwaysValid, Tuning, compare_always
from analysis.verdict import NoVerdict

Exact = int | Fraction | float
"""Numbers that lose nothing, of any size, or floats."""


class Sums(NamedTuple):
    """Over units: of a value x, and of a ratio's denominator y."""

    x: Exact = 0
    y: Exact = 0
    xx: Exact = 0
    xy: Exact = 0
    yy: Exact = 0

    def __add__(self, other: tuple[object, ...]) -> Sums:
        assert isinstance(other, Sums)
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


class Added(NamedTuple):
    """What a step adds for a variation."""

    segment: str
    variation: str
    step: int
    """Seconds since 1970 of its start, or the number of days since exposure."""
    new_units: int
    active_units: int
    """That did something in the step."""
    gained: Sums
    """By how much the sums of units' values so far grow."""
    own: Sums
    """The sums of what units did in the step alone."""


@dataclass(frozen=True, slots=True)
class Point:
    step: int
    new_units: int
    units: int
    """So far; by days since exposure those that have lived through the day."""
    active_units: int
    own_value: float | None
    """Of what was done in the step alone."""
    estimate: Estimate | NoVerdict
    effect: float | None = None
    """Against the baseline; None for the baseline itself."""
    sequential: AlwaysValid | NoVerdict | None = None


Tunings = Mapping[str, Tuning]
"""By variation: of its intervals against the baseline."""

Series = Mapping[str, Sequence[Point]]
"""By variation; all have the same steps."""


def settling(
    added: Sequence[Added], variations: Sequence[str], kind: Kind, tunings: Tunings, level: float
) -> Series:
    """Cumulative. The first variation is the baseline; all rows are of one segment."""
    steps = sorted({row.step for row in added})
    points: dict[str, list[Point]] = {}
    for variation, rows in _by_variation(added, variations).items():
        of_step = [rows.get(step) or _nothing(step) for step in steps]
        units = accumulate(row.new_units for row in of_step)
        sums = accumulate((row.gained for row in of_step), Sums.__add__)
        points[variation] = [
            Point(
                row.step,
                row.new_units,
                n,
                row.active_units,
                _own(row, n, kind),
                _of(n, so_far, kind),
            )
            for row, n, so_far in zip(of_step, units, sums, strict=True)
        ]
    return _compared(points, tunings, level)


def wearing(
    added: Sequence[Added], variations: Sequence[str], kind: Kind, tunings: Tunings, level: float
) -> Series:
    """By days since exposure. `new_units` of a row are those that have lived through so many days,
    and no more, so `n` days hold those of `n` and of all later rows."""
    lived = max((row.step for row in added if row.new_units), default=0)
    points: dict[str, list[Point]] = {}
    for variation, rows in _by_variation(added, variations).items():
        of_day = [rows.get(day) or _nothing(day) for day in range(lived + 1)]
        left = list(accumulate(row.new_units for row in reversed(of_day)))[::-1]
        points[variation] = [
            Point(day, 0, n, row.active_units, _own(row, n, kind), _of(n, row.own, kind))
            for day, (row, n) in enumerate(zip(of_day[:-1], left[1:], strict=True))
        ]
    return _compared(points, tunings, level)


def _by_variation(
    added: Sequence[Added], variations: Sequence[str]
) -> Mapping[str, Mapping[int, Added]]:
    found: dict[str, dict[int, Added]] = {variation: {} for variation in variations}
    for row in added:
        found[row.variation][row.step] = row
    return found


def _nothing(step: int) -> Added:
    return Added("", "", step, 0, 0, Sums(), Sums())


def _compared(points: Mapping[str, list[Point]], tunings: Tunings, level: float) -> Series:
    baseline, *others = points
    found: dict[str, Sequence[Point]] = {baseline: points[baseline]}
    for variation in others:
        pairs = zip(points[baseline], points[variation], strict=True)
        tuning = tunings[variation]
        found[variation] = [_against(base, point, tuning, level) for base, point in pairs]
    return found


def _against(base: Point, point: Point, tuning: Tuning, level: float) -> Point:
    for one in (base.estimate, point.estimate):
        if isinstance(one, NoVerdict):
            return replace(point, sequential=one)
    assert isinstance(base.estimate, Estimate)
    assert isinstance(point.estimate, Estimate)
    return replace(
        point,
        effect=point.estimate.value - base.estimate.value,
        sequential=compare_always(base.estimate, point.estimate, tuning, level),
    )


def _own(row: Added, units: int, kind: Kind) -> float | None:
    below = row.own.y if kind == "ratio" else units
    return float(row.own.x / below) if below else None


def _of(units: int, sums: Sums, kind: Kind) -> Estimate | NoVerdict:
    if not units:
        return NO_UNITS
    moments = joint(units, sums)
    if moments is None:
        return NOT_FINITE
    return ratio(moments) if kind == "ratio" else mean(moments.one(0))


def joint(units: int, sums: Sums) -> JointMoments | None:
    """Of exact numbers without any rounding before the end; None of what is not finite."""
    if not all(map(math.isfinite, sums)):
        return None
    x, y, xx, xy, yy = sums
    pairs = (((x, x, xx), (x, y, xy)), ((x, y, xy), (y, y, yy)))
    if all(isinstance(number, Rational) for number in sums):
        means = (float(x / units), float(y / units))
        products = tuple(
            tuple(float((units * p - a * b) / units) for a, b, p in row) for row in pairs
        )
        return JointMoments(units, means, products)
    x, y, xx, xy, yy = map(float, sums)
    return JointMoments.from_sums(units, (x, y), ((xx, xy), (xy, yy)))
