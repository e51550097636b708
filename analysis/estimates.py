"""What does one arm say about a metric, and how sure is it?

Every kind of metric comes down to the same three numbers: units, a value, and the variance that one
unit contributes. The variance of the value is that of one unit, divided by the number of units. So
tests, intervals, confidence sequences, posteriors and power are written once, for all kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from analysis.moments import Moments
from analysis.verdict import NoVerdict, NoVerdictReason

NO_UNITS = NoVerdict(
    NoVerdictReason.NO_UNITS, "There is nothing to compare: a variation has no units yet."
)
TOO_FEW_UNITS = NoVerdict(
    NoVerdictReason.TOO_FEW_UNITS,
    "One unit says nothing of how units differ; each variation needs two at the very least.",
)
ZERO_VARIANCE = NoVerdict(
    NoVerdictReason.ZERO_VARIANCE,
    "The metric has the same value for every unit, or differs by less than arithmetic can tell, "
    "so there is no spread to measure an effect by.",
)
NOT_FINITE = NoVerdict(
    NoVerdictReason.NOT_FINITE,
    "The metric has infinite or undefined values, or such large ones that their squares are "
    "infinite; put a cap on it or correct what is sent.",
)


@dataclass(frozen=True, slots=True)
class Estimate:
    units: int
    value: float
    unit_variance: float
    """Of a unit's influence on the value, dividing by `units - 1`."""

    @property
    def squared_error(self) -> float:
        return self.unit_variance / self.units

    @property
    def standard_error(self) -> float:
        return math.sqrt(self.squared_error)


def mean(moments: Moments) -> Estimate:
    return Estimate(moments.units, moments.mean, moments.variance)


@dataclass(frozen=True, slots=True)
class Proportion:
    units: int
    successes: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.units:
            raise ValueError(
                f"{self.successes} of {self.units} units cannot have succeeded; "
                "a unit succeeds once or not at all"
            )

    @property
    def share(self) -> float:
        return self.successes / self.units

    def estimate(self) -> Estimate:
        """The mean of a 1 for each unit that succeeded and a 0 for each other."""
        if self.units < 2:
            return Estimate(self.units, self.share if self.units else 0.0, math.nan)
        spread = self.share * (self.units - self.successes) / (self.units - 1)
        return Estimate(self.units, self.share, spread)


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two arms, or of an arm and a multiple of the other: a value with its standard error."""

    value: float
    standard_error: float
    degrees: float
    """Of freedom, by Welch (1947) and Satterthwaite (1946)."""
    units: int
    """Of both arms."""


def sharing_variance(baseline: Estimate, arm: Estimate) -> tuple[Estimate, Estimate]:
    """Both with the pooled variance, if just one of them does not vary; else as they are.

    An arm in which all units have the same value, such as zero of a rare event, has not shown yet
    how units differ. Its variance of 0 would be taken for certainty: with 100 units and one event
    in 100, a third of harmless experiments would have a p-value below 0.05.
    """
    if (baseline.unit_variance == 0) == (arm.unit_variance == 0):
        return baseline, arm
    freedom = baseline.units + arm.units - 2
    pooled = (baseline.units - 1) / freedom * baseline.unit_variance
    pooled += (arm.units - 1) / freedom * arm.unit_variance
    return replace(baseline, unit_variance=pooled), replace(arm, unit_variance=pooled)


def difference(
    baseline: Estimate, arm: Estimate, *, multiple: float = 1.0, margin: float = 0.0
) -> Difference | NoVerdict:
    """`arm - multiple * baseline - margin`."""
    if baseline.units == 0 or arm.units == 0:
        return NO_UNITS
    if baseline.units < 2 or arm.units < 2:
        return TOO_FEW_UNITS
    baseline, arm = sharing_variance(baseline, arm)
    of_baseline, of_arm = multiple * multiple * baseline.squared_error, arm.squared_error
    variance = of_baseline + of_arm
    value = arm.value - multiple * baseline.value - margin
    if not (math.isfinite(value) and math.isfinite(variance)):
        return NOT_FINITE
    if variance == 0:
        return ZERO_VARIANCE
    # As shares of the variance: its square would overflow or vanish before it does.
    share = of_baseline / variance
    degrees = 1 / (share * share / (baseline.units - 1) + (1 - share) ** 2 / (arm.units - 1))
    return Difference(value, math.sqrt(variance), degrees, baseline.units + arm.units)
