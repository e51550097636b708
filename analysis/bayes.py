"""Which belief about the effect is right after the data?

The data come in as the effect and its standard error, which is all that is left of them when there
are some hundred units in each arm: the posterior is then normal whatever the distribution of a
unit's values (the Bernstein-von Mises theorem). The prior is normal as well.

The prior by default is worth one unit in each arm (the unit information prior of Kass and Wasserman
1995, JASA 90): centred at no effect, as wide as units differ. With 100 units in each arm it moves
the effect by one hundredth of itself. Who knows from former experiments how large effects are gives
that as the prior; `FLAT` has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from analysis.effects import critical_t
from analysis.estimates import Estimate, difference
from analysis.verdict import Interval, NoVerdict


@dataclass(frozen=True, slots=True)
class Prior:
    """Of the absolute effect."""

    mean: float
    deviation: float
    """Standard; infinite for a flat prior."""

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            raise ValueError(f"a prior's standard deviation is above zero, not {self.deviation}")


FLAT = Prior(0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Posterior:
    mean: float
    deviation: float
    interval: Interval
    chance_to_beat_baseline: float
    expected_loss: float
    """What choosing this arm costs on average, in the metric's unit, if it is worse after all."""
    expected_loss_of_baseline: float
    """What staying with the baseline costs on average if this arm is better after all."""
    prior: Prior


def worth_one_unit(baseline: Estimate, arm: Estimate) -> Prior:
    return Prior(0.0, math.sqrt(baseline.unit_variance + arm.unit_variance))


def posterior(
    baseline: Estimate,
    arm: Estimate,
    prior: Prior | None = None,
    *,
    higher_is_better: bool = True,
    level: float = 0.95,
) -> Posterior | NoVerdict:
    gap = difference(baseline, arm)
    if isinstance(gap, NoVerdict):
        return gap
    before = worth_one_unit(baseline, arm) if prior is None else prior
    # Weights instead of precisions: those of a tiny or a huge error would not be finite.
    odds = (gap.standard_error / before.deviation) ** 2
    mean = (gap.value + before.mean * odds) / (1 + odds)
    deviation = gap.standard_error / math.sqrt(1 + odds)
    margin = critical_t(level, math.inf) * deviation
    gain = mean if higher_is_better else -mean
    return Posterior(
        mean=mean,
        deviation=deviation,
        interval=Interval(mean - margin, mean + margin),
        chance_to_beat_baseline=float(special.ndtr(gain / deviation)),
        expected_loss=deviation * _mean_shortfall(gain / deviation),
        expected_loss_of_baseline=deviation * _mean_shortfall(-gain / deviation),
        prior=before,
    )


def _mean_shortfall(mean: float) -> float:
    """The mean of max(0, -x) over a normal distribution with this mean and variance 1."""
    if mean <= 0:
        density = math.exp(-mean * mean / 2) / math.sqrt(2 * math.pi)
        return density - mean * float(special.ndtr(-mean))
    # With both parts divided by the density, so that they do not vanish before their difference.
    ratio = math.sqrt(math.pi / 2) * float(special.erfcx(mean / math.sqrt(2)))
    density = math.exp(-mean * mean / 2) / math.sqrt(2 * math.pi)
    return density * max(0.0, 1 - mean * ratio)
