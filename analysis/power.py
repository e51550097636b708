"""How many units does an effect take to be seen, and how long is that?

Everything follows from one number: by how many standard errors an effect has to differ from zero to
be found significant with the wanted power (2.80 for 80 % at 5 %, both sides counted). The variance
is the experiment's own. Normal approximation; below some 50 units in an arm it is a little too
hopeful.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from scipy import optimize, special

from analysis.effects import critical_t
from analysis.estimates import NO_UNITS, NOT_FINITE, TOO_FEW_UNITS, ZERO_VARIANCE, Estimate
from analysis.sequential import Tuning, narrowest, width
from analysis.verdict import NoVerdict, NoVerdictReason


@dataclass(frozen=True, slots=True)
class Design:
    """Two arms, of which `share` of the units of both are in the one that is not the baseline.

    With a tuning, significant means so by an always-valid p-value of that tuning, whose bounds are
    wider at other numbers of units than the planned one. Looks before the last one add some power
    that is not counted.
    """

    baseline_variance: float
    arm_variance: float
    share: float = 0.5
    level: float = 0.95
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"an arm has a share between 0 and 1 of the units, not {self.share}")

    def standard_error(self, units: float) -> float:
        """Of the effect, when both arms together have these units."""
        return math.sqrt(self._unit_variance / units)

    def power(self, effect: float, units: float) -> float:
        return power_at(effect / self.standard_error(units), self._critical(units))

    def minimum_detectable_effect(self, units: float, power: float = 0.8) -> float:
        return detectable_at(power, self._critical(units)) * self.standard_error(units)

    def units_needed(self, effect: float, power: float = 0.8) -> float:
        """In both arms together."""
        if effect == 0:
            raise ValueError("no number of units shows an effect of zero")
        if self.tuning is None:
            critical = detectable_at(power, critical_t(self.level, math.inf))
            return self._unit_variance * (critical / effect) ** 2
        return self._units_at_any_time(effect, power)

    @property
    def _unit_variance(self) -> float:
        return self.arm_variance / self.share + self.baseline_variance / (1 - self.share)

    def _critical(self, units: float) -> float:
        if self.tuning is None:
            return critical_t(self.level, math.inf)
        return width(self.tuning, units, self.level)

    def _units_at_any_time(self, effect: float, power: float) -> float:
        def missing(logarithm: float) -> float:
            return self.power(effect, math.exp(logarithm)) - power

        # Power grows with the units; the critical value depends on them, so they are searched for.
        narrow = detectable_at(power, math.sqrt(narrowest(self.level) + 1))
        low = high = math.log(self._unit_variance) + 2 * math.log(narrow / abs(effect))
        while missing(high) < 0:
            high += 1
        while missing(low) > 0:  # where the bounds are narrowest, by what is rounded
            low -= 1
        return math.exp(float(optimize.brentq(missing, low, high, xtol=1e-12)))


def design_of(
    baseline: Estimate, arm: Estimate, *, level: float = 0.95, tuning: Tuning | None = None
) -> Design | NoVerdict:
    """With the variances and shares that the experiment has so far."""
    if not baseline.units or not arm.units:
        return NO_UNITS
    if baseline.units < 2 or arm.units < 2:
        return TOO_FEW_UNITS
    if not math.isfinite(baseline.unit_variance + arm.unit_variance):
        return NOT_FINITE
    if baseline.unit_variance + arm.unit_variance == 0:
        return ZERO_VARIANCE
    share = arm.units / (arm.units + baseline.units)
    return Design(baseline.unit_variance, arm.unit_variance, share, level, tuning)


def days_to_go(units_needed: float, units: int, units_per_day: float) -> float | NoVerdict:
    """0 when there are enough already."""
    if units >= units_needed:
        return 0.0
    if not units_per_day > 0:
        return NoVerdict(
            NoVerdictReason.NO_ARRIVALS,
            "No new units arrive, so the planned number will not be reached.",
        )
    return (units_needed - units) / units_per_day


def power_at(errors: float, critical: float) -> float:
    """The chance that an effect of so many standard errors is found significant, on any side."""
    return float(special.ndtr(errors - critical) + special.ndtr(-errors - critical))


@lru_cache(maxsize=1_024)  # callers choose the floats
def detectable_at(power: float, critical: float) -> float:
    """Of how many standard errors an effect has to be."""
    least = 2 * float(special.ndtr(-critical))
    if not least < power < 1:
        raise ValueError(f"power is between {least:.3g} (found by chance) and 1, not {power}")
    far = critical + float(special.ndtri(power)) + 1
    return float(
        optimize.brentq(lambda errors: power_at(errors, critical) - power, 0.0, far, xtol=1e-14)
    )
