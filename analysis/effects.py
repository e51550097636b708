"""How much more does an arm have than the baseline, and how sure is that?

The absolute effect is tested by Welch's t test, which does not assume equal variances. The relative
effect has Fieller's interval (1954, "Some problems in interval estimation", JRSS B 16): all ratios
that Welch's test would not reject. So both intervals leave zero out together, and where the
baseline may be zero there is no interval instead of a wrong one. For the delta method, which other
tools use, see `delta_relative`; the two agree when the baseline is many standard errors from zero.
"""

from __future__ import annotations

import math

from scipy import special

from analysis.estimates import Estimate, difference, sharing_variance
from analysis.verdict import Comparison, Effect, Interval, NoVerdict, NoVerdictReason

NEGATIVE_BASELINE = NoVerdict(
    NoVerdictReason.NEGATIVE_BASELINE,
    "The baseline is negative, so a percentage of it would turn better into worse; "
    "read the absolute effect.",
)
BASELINE_NEAR_ZERO = NoVerdict(
    NoVerdictReason.BASELINE_NEAR_ZERO,
    "The baseline is zero or so near to it that a percentage of it is not bounded; "
    "read the absolute effect.",
)


def compare(baseline: Estimate, arm: Estimate, level: float = 0.95) -> Comparison | NoVerdict:
    """For all kinds but proportions, which `analysis.proportions` compares more sharply."""
    gap = difference(baseline, arm)
    if isinstance(gap, NoVerdict):
        return gap
    baseline, arm = sharing_variance(baseline, arm)
    statistic = gap.value / gap.standard_error
    critical = critical_t(level, gap.degrees)
    margin = critical * gap.standard_error
    return Comparison(
        absolute=Effect(gap.value, Interval(gap.value - margin, gap.value + margin)),
        relative=fieller_relative(baseline, arm, critical),
        p_value=two_sided_p(statistic, gap.degrees),
        statistic=statistic,
        degrees=gap.degrees,
    )


def fieller_relative(baseline: Estimate, arm: Estimate, critical: float) -> Effect | NoVerdict:
    """The relative effect and Fieller's interval; `critical` is the quantile that bounds it."""
    doubt = critical * baseline.standard_error
    if baseline.value < -doubt:
        return NEGATIVE_BASELINE
    if baseline.value <= doubt:
        return BASELINE_NEAR_ZERO
    ratio = arm.value / baseline.value
    doubt = (doubt / baseline.value) ** 2
    spread = arm.squared_error * (1 - doubt) + ratio * ratio * baseline.squared_error
    margin = critical * math.sqrt(spread) / baseline.value
    low, high = (ratio - margin) / (1 - doubt) - 1, (ratio + margin) / (1 - doubt) - 1
    return Effect(_less(arm.value, baseline.value), Interval(low, high))


def delta_relative(baseline: Estimate, arm: Estimate, critical: float) -> Effect | NoVerdict:
    """The relative effect with the interval of the delta method, symmetric about it.

    Deng, Knoblich and Lu (2018), "Applying the delta method in metric analytics", KDD.
    """
    if baseline.value < 0:
        return NEGATIVE_BASELINE
    if baseline.value <= critical * baseline.standard_error:
        return BASELINE_NEAR_ZERO
    ratio = arm.value / baseline.value
    spread = arm.squared_error + ratio * ratio * baseline.squared_error
    margin = critical * math.sqrt(spread) / baseline.value
    effect = _less(arm.value, baseline.value)
    return Effect(effect, Interval(effect - margin, effect + margin))


def critical_t(level: float, degrees: float) -> float:
    """What Student's t does not pass, on either side, with the probability `level`."""
    if not 0 < level < 1:
        raise ValueError(f"a confidence level is between 0 and 1, such as 0.95, not {level}")
    return -float(special.stdtrit(degrees, (1 - level) / 2))


def two_sided_p(statistic: float, degrees: float) -> float:
    # The lower tail of the negative: 1 - cdf would round a small p-value to zero.
    return min(1.0, 2 * upper_tail(abs(statistic), degrees))


def upper_tail(statistic: float, degrees: float) -> float:
    if math.isinf(degrees):
        return float(special.ndtr(-statistic))
    return float(special.stdtr(degrees, -statistic))


def _less(value: float, base: float) -> float:
    return (value - base) / base
