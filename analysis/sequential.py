"""What may be said of an effect at any time, however often one looks?

Asymptotic confidence sequences (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 52; arXiv
2103.06476, theorem 2.2): an interval at each number of units t, so that with probability 95 % *all*
of them hold the effect:

    effect +- error * sqrt( (u + 1) / u * (ln(u + 1) - 2 ln alpha) ),   u = t * rho^2

where `error` is the usual standard error. The p-value is the smallest alpha whose interval leaves
zero out. A difference of two arms is a mean of influence values over the units of both, with
t * error^2 their variance; so are ratios, adjusted means and, in the limit, quantiles: the same
formula serves all. It is derived from a normal mixture (Robbins 1970) and a strong approximation,
so it needs no assumption on the distribution but a finite variance, and some units before the first
look.

`rho` decides at which number of units the intervals are narrowest. It has to be chosen before the
data are seen: from the planned number of units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy import special

from analysis.estimates import Difference, Estimate, difference
from analysis.verdict import Interval, NoVerdict, NoVerdictReason

DEFAULT_PLANNED_UNITS = 10_000
"""Of both arms, where nobody planned."""

FEWEST_UNITS = 100
"""In each arm before the first look: the theory is a limit, and this is where it is near enough."""


@dataclass(frozen=True, slots=True)
class Tuning:
    rho_squared: float

    @classmethod
    def for_units(cls, planned: int | None, level: float = 0.95) -> Tuning:
        """Narrowest when both arms together have the planned units."""
        units = DEFAULT_PLANNED_UNITS if planned is None else planned
        if units < 1:
            raise ValueError(f"an experiment is planned for 1 or more units, not for {units}")
        return cls(narrowest(level) / units)


def planned_for(
    planned: int | None, weights: Mapping[str, int], baseline: str, variation: str
) -> int | None:
    """Of the units planned for all variations, those of two of them together."""
    if planned is None:
        return None
    share = (weights[baseline] + weights[variation]) / sum(weights.values())
    return max(1, round(planned * share))


@dataclass(frozen=True, slots=True)
class AlwaysValid:
    p_value: float
    interval: Interval


def narrowest(level: float) -> float:
    """The `u` at which the interval is narrowest: the solution of u = ln(u + 1) - 2 ln alpha."""
    alpha = 1 - level
    return float(-special.lambertw(-(alpha**2) / math.e, -1).real) - 1


def compare_always(
    baseline: Estimate,
    arm: Estimate,
    tuning: Tuning,
    level: float = 0.95,
    fewest_units: int = FEWEST_UNITS,
) -> AlwaysValid | NoVerdict:
    early = too_early(baseline, arm, fewest_units)
    if early is not None:
        return early
    gap = cautious_difference(baseline, arm)
    return gap if isinstance(gap, NoVerdict) else two_sided(gap, tuning, level)


def cautious_difference(
    baseline: Estimate, arm: Estimate, *, multiple: float = 1.0, margin: float = 0.0
) -> Difference | NoVerdict:
    """`difference`, with the greater of the two errors by separate and by pooled variances.

    A small arm that has not met a rare event yet seems not to vary at all; with separate variances
    alone, an arm of a tenth of the units gives six times the false alarms that are promised. With
    arms of one size the two errors are the same.
    """
    gap = difference(baseline, arm, multiple=multiple, margin=margin)
    if isinstance(gap, NoVerdict):
        return gap
    share = (baseline.units - 1) / (gap.units - 2)
    pooled = share * baseline.unit_variance + (1 - share) * arm.unit_variance
    error = math.sqrt(pooled * (multiple * multiple / baseline.units + 1 / arm.units))
    return replace(gap, standard_error=max(gap.standard_error, error))


def too_early(baseline: Estimate, arm: Estimate, fewest_units: int) -> NoVerdict | None:
    units = min(baseline.units, arm.units)
    if units >= fewest_units:
        return None
    return NoVerdict(
        NoVerdictReason.TOO_FEW_UNITS if units else NoVerdictReason.NO_UNITS,
        f"Always-valid results start at {fewest_units} units in each variation; "
        f"the smaller one has {units}.",
    )


def width(tuning: Tuning, units: float, level: float = 0.95) -> float:
    """Of the interval on each side, in standard errors, when both arms have these units."""
    ripeness = tuning.rho_squared * units
    return math.sqrt((ripeness + 1) / ripeness * (math.log1p(ripeness) - 2 * math.log(1 - level)))


def two_sided(gap: Difference, tuning: Tuning, level: float = 0.95) -> AlwaysValid:
    ripeness = tuning.rho_squared * gap.units
    margin = width(tuning, gap.units, level) * gap.standard_error
    interval = Interval(gap.value - margin, gap.value + margin)
    return AlwaysValid(_two_sided_p(gap.value / gap.standard_error, ripeness), interval)


def above_zero(gap: Difference, tuning: Tuning, level: float = 0.95) -> AlwaysValid:
    """One-sided: the p-value of "it is not above zero", and a lower bound for it.

    From the mixture over positive effects alone (Robbins 1970), whose wealth is
    2 exp(s^2 / 2) Phi(s) / sqrt(u + 1), with s^2 = z^2 u / (u + 1); by Phi(s) >= 1 - exp(-s^2 / 2)
    / 2 it is at least (2 exp(s^2 / 2) - 1) / sqrt(u + 1), which solves for s.
    """
    ripeness = tuning.rho_squared * gap.units
    shrink = math.sqrt((ripeness + 1) / ripeness)
    reach = math.sqrt(2 * math.log((1 + math.sqrt(ripeness + 1) / (1 - level)) / 2)) * shrink
    statistic = gap.value / gap.standard_error / shrink
    p_value = 1.0
    if statistic > 0:
        half = statistic * statistic / 2
        wealth = math.log(2) + half + math.log1p(-math.exp(-half) / 2) - math.log1p(ripeness) / 2
        p_value = math.exp(min(0.0, -wealth))
    return AlwaysValid(p_value, Interval(gap.value - reach * gap.standard_error, math.inf))


def _two_sided_p(statistic: float, ripeness: float) -> float:
    exponent = math.log1p(ripeness) / 2 - statistic * statistic * ripeness / (2 * (ripeness + 1))
    return math.exp(min(0.0, exponent))
