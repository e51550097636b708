from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.estimates import Estimate
from analysis.moments import JointMoments
from analysis.quantiles import (
    Ranks,
    clustered_shares,
    ends_in_histogram,
    estimate,
    exact_ranks,
    ranks_of_shares,
)
from analysis.sketches import bucket_of
from analysis.verdict import Interval, NoVerdict, NoVerdictReason


def reason(answer: object) -> NoVerdictReason:
    assert isinstance(answer, NoVerdict)
    return answer.reason


@pytest.mark.parametrize("units", [20, 50, 333, 10_000, 1_000_000])
@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.9])
def test_exact_ranks_cover_what_the_binomial_distribution_says_and_are_tight(
    units: int, quantile: float
) -> None:
    ranks = exact_ranks(units, quantile)
    if isinstance(ranks, NoVerdict):
        assert units * (1 - quantile) < 4
        return
    below = stats.binom(units, quantile)
    assert ranks.coverage >= 0.95 - 1e-12
    assert ranks.coverage == pytest.approx(below.cdf(ranks.high - 1) - below.cdf(ranks.low - 1))
    # One rank nearer on either side would pass that end too often.
    assert below.cdf(ranks.low) > 0.025
    assert below.sf(ranks.high - 2) > 0.025


def test_exact_ranks_are_those_of_scipys_quantile_test() -> None:
    values = np.sort(np.random.default_rng(31).lognormal(0, 1, 200))
    ranks = exact_ranks(200, 0.75)
    assert isinstance(ranks, Ranks)
    theirs: Any = stats.quantile_test(values, q=0, p=0.75).confidence_interval(0.95)
    assert values[ranks.low - 1] == theirs.low
    assert values[ranks.high - 1] == theirs.high


def test_exact_ranks_have_no_verdict_when_an_end_lies_beyond_all_units() -> None:
    assert reason(exact_ranks(0, 0.5)) is NoVerdictReason.NO_UNITS
    assert reason(exact_ranks(100, 0.99)) is NoVerdictReason.TOO_FEW_UNITS
    assert isinstance(exact_ranks(1_000, 0.99), Ranks)
    with pytest.raises(ValueError, match=r"such as 0\.95, not 95"):
        exact_ranks(100, 95)


def test_clustered_shares_are_those_of_single_values_when_each_unit_has_one() -> None:
    below = (np.arange(10_000) < 9_000).astype(float)
    shares = clustered_shares(JointMoments.of(below, np.ones(10_000)), 0.9)
    assert isinstance(shares, Interval)
    assert shares.high - 0.9 == pytest.approx(1.96 * np.sqrt(0.9 * 0.1 / 10_000), rel=1e-3)


def test_clustered_shares_are_wider_when_values_of_a_unit_are_all_alike() -> None:
    below = 5.0 * (np.arange(2_000) < 1_000)
    shares = clustered_shares(JointMoments.of(below, np.full(2_000, 5.0)), 0.5)
    assert isinstance(shares, Interval)
    assert shares.high - 0.5 == pytest.approx(1.96 * np.sqrt(0.25 / 2_000), rel=1e-3)


def test_clustered_shares_have_no_verdict_when_values_tie_or_units_are_few() -> None:
    ones = np.ones(50)
    assert reason(clustered_shares(JointMoments.of(ones, ones), 0.5)) is NoVerdictReason.VALUE_TIED
    few = JointMoments.of([1.0, 1, 0, 1], [1.0, 1, 1, 1])
    assert reason(clustered_shares(few, 0.9)) is NoVerdictReason.TOO_FEW_UNITS
    assert reason(clustered_shares(JointMoments.of([], []), 0.9)) is NoVerdictReason.NO_UNITS


def test_estimate_has_the_error_that_the_interval_says() -> None:
    answer = estimate(400, 10.0, Interval(10 - 1.959964, 10 + 1.959964))
    assert isinstance(answer, Estimate)
    assert answer.standard_error == pytest.approx(1, rel=1e-6)
    assert reason(estimate(400, 2.0, Interval(2, 2))) is NoVerdictReason.VALUE_TIED
    assert reason(estimate(1, 2.0, Interval(1, 2))) is NoVerdictReason.TOO_FEW_UNITS


def test_ends_in_histogram_lie_around_the_exact_ones_and_at_most_a_64th_further() -> None:
    values = np.sort(np.random.default_rng(32).lognormal(6, 1, 5_000))
    histogram = Counter(bucket_of(values).tolist())
    shares = Interval(0.88, 0.92)
    low, high = ranks_of_shares(shares, len(values))
    exact = Interval(float(values[low - 1]), float(values[high - 1]))
    ends = ends_in_histogram(histogram, shares, float(values[0]), float(values[-1]))
    assert exact.low * (1 - 1 / 64) <= ends.low <= exact.low
    assert exact.high <= ends.high <= exact.high * (1 + 1 / 64)


def test_ends_in_histogram_do_not_pass_the_values_that_there_are() -> None:
    histogram = Counter(bucket_of(np.full(10, 7.0)).tolist())
    assert ends_in_histogram(histogram, Interval(0.4, 0.6), 7.0, 7.0) == Interval(7, 7)
    with pytest.raises(ValueError, match="without values"):
        ends_in_histogram({}, Interval(0.4, 0.6), 0, 1)
