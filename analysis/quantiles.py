"""What is a quantile of a metric, and how sure is it?

Two situations, two methods:

* One value per unit (a unit's total): the order statistics between which the quantile lies with at
  least the wanted probability follow from the binomial distribution, exactly and for any shape of
  data (Hahn and Meeker 1991, "Statistical Intervals", section 5.2): `exact_ranks`.
* Many values per unit (every turn of a session): values of a unit resemble each other, so their
  number says too much. The share of values below the quantile is a ratio metric over units; its
  standard error by the delta method, laid on the distribution of the values, gives the interval
  (Deng, Knoblich and Lu 2018, section 4, "outer confidence interval"): `clustered_shares`.

The two ends are looked up either among all values (exact; right while the engine can sort them,
some ten million) or in a mergeable histogram (`ends_in_histogram`; right above that). A histogram's
ends are moved outwards to the edges of their buckets, at most 1.6 %: so such an interval is never
too narrow, only up to 1.6 % of the value too wide on each side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import special

from analysis.estimates import NO_UNITS, TOO_FEW_UNITS, Estimate
from analysis.moments import JointMoments
from analysis.ratios import ratio
from analysis.sketches import bounds_of
from analysis.verdict import Interval, NoVerdict, NoVerdictReason

TOO_FEW_FOR_QUANTILE = NoVerdict(
    NoVerdictReason.TOO_FEW_UNITS,
    "There are too few units to bound this quantile: one of its ends lies beyond all values.",
)
VALUE_TIED = NoVerdict(
    NoVerdictReason.VALUE_TIED,
    "So many values are the same here that the quantile moves in steps; compare the proportion of "
    "units above a threshold instead.",
)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Of order statistics, counted from 1, and how probable the quantile is between them."""

    low: int
    high: int
    coverage: float


def exact_ranks(units: int, quantile: float, level: float = 0.95) -> Ranks | NoVerdict:
    """Each end is passed with at most half of `1 - level`, so the coverage is at least `level`."""
    _check_quantile(quantile)
    if units == 0:
        return NO_UNITS
    tail = (1 - level) / 2
    low = _binomial_quantile(units, quantile, tail)
    high = _binomial_quantile(units, quantile, 1 - tail) + 1
    if low < 1 or high > units:
        return TOO_FEW_FOR_QUANTILE
    coverage = special.bdtr(high - 1, units, quantile) - special.bdtr(low - 1, units, quantile)
    return Ranks(low, high, float(coverage))


def clustered_shares(
    below_and_all: JointMoments, quantile: float, level: float = 0.95
) -> Interval | NoVerdict:
    """At which shares of all values to look up the ends of the interval.

    The moments, over units, are of how many of its values are at most the quantile, and of how
    many it has. Values above 1 or below 0 cannot be looked up, and are no verdict.
    """
    _check_quantile(quantile)
    share = ratio(below_and_all)
    if isinstance(share, NoVerdict):
        return share
    margin = _critical(level) * share.standard_error
    if margin == 0:
        # All values of all units tie with the quantile, or lie on one side of it.
        return VALUE_TIED
    if quantile - margin <= 0 or quantile + margin >= 1:
        return TOO_FEW_FOR_QUANTILE
    return Interval(quantile - margin, quantile + margin)


def estimate(units: int, value: float, ends: Interval, level: float = 0.95) -> Estimate | NoVerdict:
    """As every test wants it: the interval's width says what the standard error is.

    `level` is the interval's own: of exact ranks, their coverage.
    """
    if units < 2:
        return TOO_FEW_UNITS if units else NO_UNITS
    if ends.low == ends.high:
        return VALUE_TIED
    error = (ends.high - ends.low) / (2 * _critical(level))
    return Estimate(units, value, error * error * units)


def ends_in_histogram(
    histogram: Mapping[int, int], shares: Interval, smallest: float, greatest: float
) -> Interval:
    """Of `analysis.sketches`; outwards to the edges of buckets, and not beyond all values."""
    low, _ = bounds_of(_bucket_at(histogram, shares.low))
    _, high = bounds_of(_bucket_at(histogram, shares.high))
    return Interval(max(smallest, low), min(greatest, high))


def ranks_of_shares(shares: Interval, values: int) -> tuple[int, int]:
    """Which of the sorted values, counted from 1, are at these shares."""
    return max(1, math.floor(shares.low * values)), min(values, math.ceil(shares.high * values))


def _bucket_at(histogram: Mapping[int, int], share: float) -> int:
    rank, seen = max(1, math.ceil(share * sum(histogram.values()))), 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= rank:
            return bucket
    raise ValueError("a histogram without values has no quantiles")


def _binomial_quantile(trials: int, probability: float, share: float) -> int:
    """The least number of successes that at least this share of experiments does not exceed."""
    guess = probability * trials + float(special.ndtri(share)) * math.sqrt(
        trials * probability * (1 - probability)
    )
    successes = min(trials, max(0, round(guess)))
    while successes > 0 and special.bdtr(successes - 1, trials, probability) >= share:
        successes -= 1
    while special.bdtr(successes, trials, probability) < share:
        successes += 1
    return successes


def _critical(level: float) -> float:
    return -float(special.ndtri((1 - level) / 2))


def _check_quantile(quantile: float) -> None:
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile is between 0 and 1, such as 0.95, not {quantile}")
