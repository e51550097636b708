"""The kinds of metrics that are simulated: how units come about, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from analysis.cuped import adjusted_means, adjusted_ratios
from analysis.effects import compare
from analysis.estimates import Estimate, Proportion, mean
from analysis.moments import JointMoments, Moments
from analysis.proportions import compare_proportions
from analysis.quantiles import clustered_shares, estimate, exact_ranks, ranks_of_shares
from analysis.ratios import ratio
from analysis.strata import post_stratified
from analysis.verdict import Comparison, Interval, NoVerdict

Values = npt.NDArray[np.float64]
"""Of one arm: a row per value, a column per unit."""
Pair = tuple[Estimate, Estimate]
T = TypeVar("T")

QUANTILE = 0.9


def known(answer: T | NoVerdict) -> T:
    if isinstance(answer, NoVerdict):
        raise TypeError(f"a simulation is to have an answer, not: {answer.sentence}")
    return answer


@dataclass(frozen=True)
class Kind:
    name: str
    draw: Callable[[np.random.Generator, int, float], Values]
    """Of so many units, with this effect."""
    estimates: Callable[[Values, Values], Pair]
    effect: float
    """A large enough one to be seen, small enough that the shape stays."""
    test: Callable[[Values, Values], Comparison | NoVerdict] | None = None

    def compare(self, baseline: Values, arm: Values) -> Comparison:
        if self.test is not None:
            return known(self.test(baseline, arm))
        return known(compare(*self.estimates(baseline, arm)))


def _each(one: Callable[[Values], Estimate | NoVerdict]) -> Callable[[Values, Values], Pair]:
    return lambda baseline, arm: (known(one(baseline)), known(one(arm)))


def _normal(rng: np.random.Generator, units: int, effect: float) -> Values:
    return rng.normal(1e6 + effect, 3, (1, units))


def _lognormal(rng: np.random.Generator, units: int, effect: float) -> Values:
    return rng.lognormal(0, 1, (1, units)) + effect


def _counts(rng: np.random.Generator, units: int, effect: float) -> Values:
    """Half of the units do nothing at all."""
    return rng.poisson((0.8 + 2 * effect) * (rng.random((1, units)) < 0.5)).astype(float)


def _successes(rng: np.random.Generator, units: int, effect: float) -> Values:
    return (rng.random((1, units)) < 0.1 + effect).astype(float)


def _turns(rng: np.random.Generator, units: int, effect: float) -> Values:
    """Retries and turns: units differ in both, and who retries more has more turns."""
    eager = rng.gamma(2, 1, units)
    turns = 1 + rng.poisson(2 * eager)
    retries = rng.poisson(turns * (0.1 + 0.1 * eager / 2)) + effect * turns
    return np.array([retries, turns], dtype=float)


def _with_past(rng: np.random.Generator, units: int, effect: float) -> Values:
    past = rng.gamma(2, 2, units)
    return np.array([0.8 * past + rng.normal(0, 1.5, units) + effect, past])


def _turns_with_past(rng: np.random.Generator, units: int, effect: float) -> Values:
    eager = rng.gamma(2, 1, units)
    both = []
    for change in (effect, 0.0):
        turns = 1 + rng.poisson(2, units)
        both += [rng.poisson(turns * eager) + change * turns, turns]
    return np.array(both, dtype=float)


def _in_segments(rng: np.random.Generator, units: int, effect: float) -> Values:
    segment = rng.integers(0, 3, units)
    return np.array([2.0 * segment + rng.normal(effect, 1, units), segment])


def _clustered(rng: np.random.Generator, units: int, effect: float) -> Values:
    """Five turns a unit, which resemble each other."""
    return rng.normal(0, 1, (1, units)) + rng.normal(0, 1, (5, units)) + effect


def _stratified(baseline: Values, arm: Values) -> Pair:
    strata = {
        str(segment): [Moments.of(one[0][one[1] == segment]) for one in (baseline, arm)]
        for segment in range(3)
    }
    first, second = known(post_stratified(strata)).arms
    return first, second


def _of_past(baseline: Values, arm: Values) -> Pair:
    first, second = known(adjusted_means([JointMoments.of(*baseline), JointMoments.of(*arm)])).arms
    return first, second


def _of_past_ratios(baseline: Values, arm: Values) -> Pair:
    arms = [JointMoments.of(*baseline), JointMoments.of(*arm)]
    first, second = known(adjusted_ratios(arms)).arms
    return first, second


def _quantile_of_units(values: Values) -> Estimate | NoVerdict:
    ordered = np.sort(values[0])
    ranks = known(exact_ranks(len(ordered), QUANTILE))
    ends = Interval(float(ordered[ranks.low - 1]), float(ordered[ranks.high - 1]))
    # The exact coverage, not 95 %: the ranks are whole numbers and take a little more.
    return estimate(len(ordered), float(np.quantile(ordered, QUANTILE)), ends, ranks.coverage)


def _quantile_of_turns(values: Values) -> Estimate | NoVerdict:
    ordered = np.sort(values, axis=None)
    found = float(np.quantile(ordered, QUANTILE))
    below = (values <= found).sum(axis=0)
    moments = JointMoments.of(below, np.full(len(below), len(values)))
    low, high = ranks_of_shares(known(clustered_shares(moments, QUANTILE)), len(ordered))
    ends = Interval(float(ordered[low - 1]), float(ordered[high - 1]))
    return estimate(len(below), found, ends)


def _proportion(values: Values) -> Proportion:
    return Proportion(values.shape[1], int(values.sum()))


_MEAN = _each(lambda values: mean(Moments.of(values[0])))

KINDS = (
    Kind("mean, large and normal", _normal, _MEAN, 0.6),
    Kind("mean, log-normal", _lognormal, _MEAN, 0.4),
    Kind("count, half of it zero", _counts, _MEAN, 0.15),
    Kind(
        "proportion",
        _successes,
        _each(lambda values: _proportion(values).estimate()),
        0.05,
        lambda baseline, arm: compare_proportions(_proportion(baseline), _proportion(arm)),
    ),
    Kind("ratio", _turns, _each(lambda values: ratio(JointMoments.of(*values))), 0.05),
    Kind("mean with CUPED", _with_past, _of_past, 0.3),
    Kind("ratio with CUPED", _turns_with_past, _of_past_ratios, 0.3),
    Kind("mean by segment", _in_segments, _stratified, 0.2),
    Kind("quantile of units", _lognormal, _each(_quantile_of_units), 0.6),
    Kind("quantile of turns", _clustered, _each(_quantile_of_turns), 0.4),
)
