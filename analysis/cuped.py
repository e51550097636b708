"""How much surer is a result when one knows what the units were like before?

CUPED (Deng, Xu, Kohavi and Walker 2013, "Improving the sensitivity of online controlled experiments
by utilizing pre-experiment data", WSDM) takes from each unit's value what its value before the
experiment foretells:

    adjusted = value - theta * (before - mean of before over all arms)

Randomisation makes `before` the same in all arms but for chance, so the effect stays what it is,
and its variance falls by the squared correlation. `theta` is the slope within the arms, of all arms
together: one for all, or the adjustment would itself differ between them. A unit without a past
counts with 0 before, in all arms alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from analysis.estimates import NO_UNITS, NOT_FINITE, TOO_FEW_UNITS, Estimate
from analysis.moments import JointMoments
from analysis.ratios import influence
from analysis.verdict import NoVerdict, NoVerdictReason

NO_COVARIATE = NoVerdict(
    NoVerdictReason.NO_COVARIATE,
    "Nothing is known of the units from before the experiment, or it is the same for all of them.",
)


@dataclass(frozen=True, slots=True)
class Adjusted:
    arms: tuple[Estimate, ...]
    theta: float
    variance_reduction: float
    """The share of the variance that is gone: 0.3 means that 30 % fewer units are needed."""


class _Arm(NamedTuple):
    moments: JointMoments
    value: float
    before: float
    of_value: Sequence[float]
    """Weights that make a unit's influence on the value out of its values."""
    of_before: Sequence[float]


def adjusted_means(
    arms: Sequence[JointMoments], theta: float | None = None
) -> Adjusted | NoVerdict:
    """Each arm's joint moments of (value, value before). A `theta` that is given is used."""
    read = [_Arm(one, one.means[0], one.means[1], (1.0, 0.0), (0.0, 1.0)) for one in arms]
    return _adjusted(read, theta)


def adjusted_ratios(
    arms: Sequence[JointMoments], theta: float | None = None
) -> Adjusted | NoVerdict:
    """Joint moments of (numerator, denominator, numerator before, denominator before)."""
    read = []
    for one in arms:
        now, before = influence(one, 0, 1), influence(one, 2, 3)
        if isinstance(now, NoVerdict):
            return now
        if isinstance(before, NoVerdict):
            return NO_COVARIATE
        read.append(
            _Arm(one, one.means[0] / one.means[1], one.means[2] / one.means[3], now, before)
        )
    return _adjusted(read, theta)


def _adjusted(arms: Sequence[_Arm], theta: float | None) -> Adjusted | NoVerdict:
    units = [arm.moments.units for arm in arms]
    if min(units, default=0) < 2:
        return TOO_FEW_UNITS if min(units, default=0) else NO_UNITS
    together = math.fsum(arm.moments.product(arm.of_value, arm.of_before) for arm in arms)
    before = math.fsum(arm.moments.product(arm.of_before, arm.of_before) for arm in arms)
    if not (math.isfinite(together) and math.isfinite(before)):
        return NOT_FINITE
    if before <= 0:
        return NO_COVARIATE
    slope = together / before if theta is None else theta
    mean_before = math.fsum(arm.before * arm.moments.units for arm in arms) / sum(units)
    estimates, plain = [], 0.0
    for arm in arms:
        weights = [
            now - slope * then for now, then in zip(arm.of_value, arm.of_before, strict=True)
        ]
        value = arm.value - slope * (arm.before - mean_before)
        spread = arm.moments.along(weights).variance
        estimates.append(Estimate(arm.moments.units, value, spread))
        plain += arm.moments.along(arm.of_value).variance / arm.moments.units
    left = math.fsum(one.squared_error for one in estimates)
    return Adjusted(tuple(estimates), slope, 1 - left / plain if plain else 0.0)
