"""What is a ratio of two sums over units, such as retries per turn, and how sure is it?

The units are randomised, not the turns, so neither the numerator nor the denominator is fixed. By
the delta method the ratio moves like the mean of its influence values over units,

    (numerator - ratio * denominator) / mean denominator,

and their variance follows from the joint moments of both. See Deng, Knoblich and Lu (2018),
"Applying the delta method in metric analytics: a practical guide with novel ideas", KDD.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.estimates import NO_UNITS, NOT_FINITE, TOO_FEW_UNITS, Estimate
from analysis.moments import JointMoments
from analysis.verdict import NoVerdict, NoVerdictReason

MOST_DENOMINATOR_ERROR = 0.2
"""Standard error of the mean denominator, as a share of it.

It bounds the ratio's bias as a share of the ratio's own standard error (Hartley and Ross 1954,
"Unbiased ratio estimators", Nature 174). At 0.2 an interval of 95 % may still hold about 94.5 %.
"""

DENOMINATOR_NEAR_ZERO = NoVerdict(
    NoVerdictReason.DENOMINATOR_NEAR_ZERO,
    "The denominator is so small, or so uneven among so few units, that a ratio to it is not "
    "bounded yet; it takes more units, or another denominator.",
)


def ratio(moments: JointMoments, numerator: int = 0, denominator: int = 1) -> Estimate | NoVerdict:
    weights = influence(moments, numerator, denominator)
    if isinstance(weights, NoVerdict):
        return weights
    value = moments.means[numerator] / moments.means[denominator]
    return Estimate(moments.units, value, moments.along(weights).variance)


def influence(
    moments: JointMoments, numerator: int, denominator: int
) -> Sequence[float] | NoVerdict:
    """By which to weigh the values of a unit to get its influence on the ratio."""
    if moments.units == 0:
        return NO_UNITS
    if moments.units < 2:
        return TOO_FEW_UNITS
    below = moments.one(denominator)
    if not (math.isfinite(below.variance) and math.isfinite(moments.one(numerator).variance)):
        return NOT_FINITE
    error = math.sqrt(below.variance / below.units)
    if below.mean <= 0 or error > MOST_DENOMINATOR_ERROR * below.mean:
        return DENOMINATOR_NEAR_ZERO
    weights = [0.0] * len(moments.means)
    weights[numerator] = 1 / below.mean
    weights[denominator] = -moments.means[numerator] / below.mean / below.mean
    return weights
