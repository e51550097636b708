"""How much surer is a result when units are compared within their segments?

Post-stratification (Miratrix, Sekhon and Yu 2013, "Adjusting treatment effect estimates by post-
stratification in randomized experiments", JRSS B 75): each arm's mean is the mean over segments,
weighted by the segment's share of the units of all arms. What differs by chance in the mix of
segments cancels out. The effect is the one for the mix of units in this experiment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from analysis.estimates import NO_UNITS, TOO_FEW_UNITS, Estimate
from analysis.moments import Moments
from analysis.verdict import NoVerdict

FEWEST_UNITS = 20
"""In each arm of a segment. In smaller ones the variance is guessed from too little."""


@dataclass(frozen=True, slots=True)
class Stratified:
    arms: tuple[Estimate, ...]
    merged: tuple[str, ...]
    """Segments that were too small and were put together as one."""
    variance_reduction: float


def post_stratified(
    segments: Mapping[str, Sequence[Moments]], fewest_units: int = FEWEST_UNITS
) -> Stratified | NoVerdict:
    """The moments of the arms, in the same order, in each segment."""
    strata, merged = _large_enough(segments, fewest_units)
    if not strata:
        return NO_UNITS
    if any(arm.units < 2 for stratum in strata for arm in stratum):
        empty = any(not arm.units for stratum in strata for arm in stratum)
        return NO_UNITS if empty else TOO_FEW_UNITS
    of_strata = [sum(arm.units for arm in stratum) for stratum in strata]
    weights = [units / sum(of_strata) for units in of_strata]
    estimates, plain = [], 0.0
    for parts in zip(*strata, strict=True):
        units = sum(part.units for part in parts)
        value = math.fsum(w * part.mean for w, part in zip(weights, parts, strict=True))
        error = math.fsum(
            w * w * part.variance / part.units for w, part in zip(weights, parts, strict=True)
        )
        estimates.append(Estimate(units, value, error * units))
        plain += reduce(add, parts).variance / units
    left = math.fsum(one.squared_error for one in estimates)
    return Stratified(tuple(estimates), tuple(merged), 1 - left / plain if plain else 0.0)


def _large_enough(
    segments: Mapping[str, Sequence[Moments]], fewest: int
) -> tuple[list[Sequence[Moments]], list[str]]:
    small = [name for name, arms in segments.items() if min(arm.units for arm in arms) < fewest]
    strata: list[Sequence[Moments]] = [arms for name, arms in segments.items() if name not in small]
    if small:
        rest = [reduce(add, arms) for arms in zip(*(segments[name] for name in small), strict=True)]
        if min(arm.units for arm in rest) < fewest and strata:
            # Still too few: they go to the smallest segment that stands on its own.
            at = min(range(len(strata)), key=lambda i: sum(arm.units for arm in strata[i]))
            strata[at] = [a + b for a, b in zip(strata[at], rest, strict=True)]
        else:
            strata.append(rest)
    return strata, small
