"""How did a result settle, and does it wear off?

From what each step adds to the sums over units: the value of each variation with all units and all
that they did up to the end of the step, and its effect with an always-valid interval, since the
whole series is looked at. By days since exposure, each day stands for itself: what units did on
their first day, on their second, of those units that have lived through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

from analysis.estimates import NO_UNITS, Estimate, mean
from analysis.metric_catalogue import Kind
from analysis.moments import JointMoments
from analysis.ratios import ratio
from analysis.sequential import AlwaysValid, Tuning, compare_always
from analysis.verdict import NoVerdict

Bits = tuple[int, int]
"""x and y are counted in parts of 2 to the minus so many, so that fractions are whole numbers."""

WHOLE: Bits = (0, 0)


class Sums(NamedTuple):
    """Over units: of a value x, and of a ratio's denominator y."""

    x: int = 0
    y: int = 0
    xx: int = 0
    xy: int = 0
    yy: int = 0

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
    added: Sequence[Added],
    variations: Sequence[str],
    kind: Kind,
    tunings: Tunings,
    level: float,
    bits: Bits = WHOLE,
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
                _own(row, n, kind, bits),
                _of(n, so_far, kind, bits),
            )
            for row, n, so_far in zip(of_step, units, sums, strict=True)
        ]
    return _compared(points, tunings, level)


def wearing(
    added: Sequence[Added],
    variations: Sequence[str],
    kind: Kind,
    tunings: Tunings,
    level: float,
    bits: Bits = WHOLE,
) -> Series:
    """By days since exposure. `new_units` of a row are those that have lived through so many days,
    and no more, so `n` days hold those of `n` and of all later rows."""
    lived = max((row.step for row in added if row.new_units), default=0)
    points: dict[str, list[Point]] = {}
    for variation, rows in _by_variation(added, variations).items():
        of_day = [rows.get(day) or _nothing(day) for day in range(lived + 1)]
        left = list(accumulate(row.new_units for row in reversed(of_day)))[::-1]
        points[variation] = [
            Point(
                day, 0, n, row.active_units, _own(row, n, kind, bits), _of(n, row.own, kind, bits)
            )
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


def _own(row: Added, units: int, kind: Kind, bits: Bits) -> float | None:
    x, y = bits
    if kind == "ratio":
        return _over(row.own.x, row.own.y, x - y) if row.own.y else None
    return _over(row.own.x, units, x) if units else None


def _of(units: int, sums: Sums, kind: Kind, bits: Bits) -> Estimate | NoVerdict:
    if not units:
        return NO_UNITS
    moments = joint(units, sums, bits)
    return ratio(moments) if kind == "ratio" else mean(moments.one(0))


def joint(units: int, sums: Sums, bits: Bits = WHOLE) -> JointMoments:
    """Without any rounding before the end."""
    x, y, xx, xy, yy = sums
    pairs = (((x, x, xx), (x, y, xy)), ((x, y, xy), (y, y, yy)))
    return JointMoments(
        units,
        (_over(x, units, bits[0]), _over(y, units, bits[1])),
        tuple(
            tuple(
                _over(units * product - left * right, units, bits[i] + bits[j])
                for j, (left, right, product) in enumerate(row)
            )
            for i, row in enumerate(pairs)
        ),
    )


def _over(above: int, below: int, bits: int) -> float:
    """Of parts of 2 to the minus `bits`."""
    return above / (below << bits) if bits >= 0 else (above << -bits) / below
