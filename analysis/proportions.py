"""How do two proportions differ?

The p-value is that of the z test with pooled variance. Both intervals hold what the same (score)
test would not reject, after Miettinen and Nurminen (1985, "Comparative analysis of two rates",
Statistics in Medicine 4; without their factor N / (N - 1)) and Koopman (1984, Biometrics 40): so
p-value and intervals agree to the last digit on what is significant, and the intervals stay within
what proportions can be and hold for rare events, where the common Wald interval does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import optimize, special

from analysis.effects import BASELINE_NEAR_ZERO
from analysis.estimates import NO_UNITS, ZERO_VARIANCE, Proportion
from analysis.verdict import Comparison, Effect, Interval, NoVerdict


def compare_proportions(
    baseline: Proportion, arm: Proportion, level: float = 0.95
) -> Comparison | NoVerdict:
    if not baseline.units or not arm.units:
        return NO_UNITS
    pooled = (baseline.successes + arm.successes) / (baseline.units + arm.units)
    if pooled in {0.0, 1.0}:
        return ZERO_VARIANCE
    gap = arm.share - baseline.share
    statistic = gap / math.sqrt(pooled * (1 - pooled) * (1 / baseline.units + 1 / arm.units))
    critical = -float(special.ndtri((1 - level) / 2))
    return Comparison(
        absolute=Effect(gap, _difference_interval(baseline, arm, critical)),
        relative=_relative(baseline, arm, critical),
        p_value=2 * float(special.ndtr(-abs(statistic))),
        statistic=statistic,
        degrees=math.inf,
    )


def _difference_interval(baseline: Proportion, arm: Proportion, critical: float) -> Interval:
    gap = arm.share - baseline.share

    def excess(difference: float) -> float:
        """Above zero where the test rejects the difference; no division, so defined at the ends."""
        low = _likeliest_baseline(baseline, arm, difference)
        high = low + difference
        variance = high * (1 - high) / arm.units + low * (1 - low) / baseline.units
        return (gap - difference) ** 2 - critical * critical * variance

    return Interval(_root(excess, -1.0, gap), _root(excess, 1.0, gap))


def _likeliest_baseline(baseline: Proportion, arm: Proportion, difference: float) -> float:
    """The baseline's proportion of greatest likelihood where the arm's is higher by `difference`.

    The middle one of a cubic equation's three real solutions (Miettinen and Nurminen, appendix I),
    then corrected by a step of Newton's method, since the cosine loses digits near the ends.
    """
    units, successes = baseline.units + arm.units, baseline.successes + arm.successes
    square = ((arm.units + 2 * baseline.units) * difference - units - successes) / units
    linear = (
        (baseline.units * difference - units - 2 * baseline.successes) * difference + successes
    ) / units
    constant = baseline.successes * difference * (1 - difference) / units
    turn = square**3 / 27 - square * linear / 6 + constant / 2
    size = math.copysign(math.sqrt(max(0.0, square * square / 9 - linear / 3)), turn)
    cosine = turn / size**3 if size else 0.0
    angle = (math.pi + math.acos(max(-1.0, min(1.0, cosine)))) / 3
    share = 2 * size * math.cos(angle) - square / 3
    slope = (3 * share + 2 * square) * share + linear
    if slope:
        step = (((share + square) * share + linear) * share + constant) / slope
        share -= step if abs(step) < 1e-6 else 0.0
    return min(max(share, 0.0, -difference), 1.0, 1.0 - difference)


def _relative(baseline: Proportion, arm: Proportion, critical: float) -> Effect | NoVerdict:
    if baseline.successes == 0:
        return BASELINE_NEAR_ZERO
    low_share, high_share = baseline.share, arm.share
    units, successes = baseline.units + arm.units, baseline.successes + arm.successes

    def excess(ratio: float) -> float:
        half = (arm.units * ratio + arm.successes + baseline.units + baseline.successes * ratio) / 2
        root = math.sqrt(max(0.0, half * half - units * ratio * successes))
        # The smaller solution of a quadratic equation, without taking near numbers apart.
        base = min(1.0, successes / (half + root))
        other = min(1.0, base * ratio)
        variance = (
            other * (1 - other) / arm.units + ratio * ratio * base * (1 - base) / baseline.units
        )
        return (high_share - ratio * low_share) ** 2 - critical * critical * variance

    ratio = high_share / low_share
    far = max(2 * ratio, 1.0)
    while excess(far) < 0:
        far *= 2
    effect = (high_share - low_share) / low_share
    return Effect(effect, Interval(_root(excess, 0.0, ratio) - 1, _root(excess, far, ratio) - 1))


def _root(excess: Callable[[float], float], far: float, near: float) -> float:
    """Between an end, where the test rejects, and what was seen, where it does not."""
    if far == near or excess(far) <= 0:
        return far
    if excess(near) >= 0:
        # All or none succeeded: what was seen has no variance itself, but all beside it has.
        near += (far - near) * 1e-12
    return float(optimize.brentq(excess, far, near, xtol=1e-16, rtol=1e-14))
