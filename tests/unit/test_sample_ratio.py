from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.sample_ratio import SampleRatio, chi_squared, first_mismatch, sequential
from analysis.verdict import NoVerdict, NoVerdictReason


def checked(answer: SampleRatio | NoVerdict) -> SampleRatio:
    assert isinstance(answer, SampleRatio)
    return answer


@pytest.mark.parametrize(
    ("units", "weights"),
    [
        ([5_012, 4_930], [5_000, 5_000]),
        ([900, 55, 61], [9_000, 500, 500]),
        ([10**9, 10**9 + 10**5], [1, 1]),
        ([500 + at for at in range(20)], [500] * 20),
        ([100, 900], [5_000, 5_000]),
    ],
)
def test_chi_squared_has_the_p_value_of_scipy(units: list[int], weights: list[int]) -> None:
    expected = [sum(units) * weight / sum(weights) for weight in weights]
    answer = checked(chi_squared(units, weights))
    assert answer.p_value == pytest.approx(stats.chisquare(units, expected).pvalue, rel=1e-9)
    assert answer.expected == pytest.approx(expected)


@pytest.mark.parametrize(
    ("units", "weights"), [([512, 430], [1, 1]), ([90, 5, 16], [90, 5, 5]), ([3, 0], [1, 3])]
)
@pytest.mark.parametrize("concentration", [10.0, 1_000.0])
def test_sequential_p_value_is_the_inverse_bayes_factor_of_scipys_distributions(
    units: list[int], weights: list[int], concentration: float
) -> None:
    shares = [weight / sum(weights) for weight in weights]
    prior = [concentration * share for share in shares]
    log_bayes = stats.dirichlet_multinomial.logpmf(
        units, prior, np.array(sum(units))
    ) - stats.multinomial.logpmf(units, sum(units), shares)
    answer = checked(sequential(units, weights, concentration=concentration))
    assert answer.p_value == pytest.approx(min(1, math.exp(-float(log_bayes))), rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 5_000), st.integers(1, 5_000), st.integers(1, 99))
def test_sequential_wealth_is_a_fair_game_when_shares_are_as_planned(
    left: int, right: int, percent: int
) -> None:
    """The mean of the next Bayes factor, over who comes next, is the present one."""

    def bayes(one: int, other: int) -> float:
        shares = [percent / 100, 1 - percent / 100]
        prior = [1_000 * share for share in shares]
        return float(
            stats.dirichlet_multinomial.logpmf([one, other], prior, np.array(one + other))
            - stats.multinomial.logpmf([one, other], one + other, shares)
        )

    now = bayes(left, right)
    mean = percent / 100 * math.exp(bayes(left + 1, right) - now)
    mean += (1 - percent / 100) * math.exp(bayes(left, right + 1) - now)
    assert mean == pytest.approx(1, rel=1e-6)


def test_sequential_does_not_forget_a_mismatch_that_was_seen() -> None:
    assert checked(sequential([500, 500], [1, 1], earlier=0.0004)).p_value == 0.0004
    assert checked(sequential([500, 500], [1, 1])).p_value == 1


def test_sample_ratio_names_the_variation_that_is_furthest_off() -> None:
    assert checked(chi_squared([5_000, 5_010, 4_000], [1, 1, 1])).most_off == 2


def test_sample_ratio_is_impossible_when_a_variation_of_weight_zero_has_units() -> None:
    for test in (chi_squared, sequential):
        answer = checked(test([500, 500, 1], [1, 1, 0]))
        assert answer.p_value == 0
        assert answer.most_off == 2
        assert checked(test([500, 500, 0], [1, 1, 0])).p_value == 1


def test_chi_squared_of_a_single_variation_finds_nothing() -> None:
    assert checked(chi_squared([500], [10_000])).p_value == 1


def test_sample_ratio_has_no_verdict_without_units_or_with_few() -> None:
    for answer in (chi_squared([0, 0], [1, 1]), sequential([0, 0], [1, 1])):
        assert isinstance(answer, NoVerdict)
        assert answer.reason is NoVerdictReason.NO_UNITS
    few = chi_squared([4, 3], [1, 1])
    assert isinstance(few, NoVerdict)
    assert few.reason is NoVerdictReason.TOO_FEW_UNITS


def test_sample_ratio_refuses_weights_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="2 variations have units and 1 have weights"):
        chi_squared([1, 2], [1])
    with pytest.raises(ValueError, match="not all zero"):
        sequential([1, 2], [0, 0])


def test_first_mismatch_is_the_day_on_which_the_loss_shows() -> None:
    sound, losing = [500, 505], [500, 380]
    assert first_mismatch([sound] * 5 + [losing] * 9, [1, 1]) in range(6, 10)
    assert first_mismatch([sound] * 30, [1, 1]) is None
    assert first_mismatch([[0, 0], sound], [1, 1]) is None
