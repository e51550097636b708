from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from analysis.estimates import Difference, Estimate, difference
from analysis.sequential import (
    AlwaysValid,
    Tuning,
    above_zero,
    cautious_difference,
    compare_always,
    narrowest,
    two_sided,
)
from analysis.verdict import NoVerdict, NoVerdictReason

GAPS = st.builds(
    Difference,
    st.floats(-1, 1),
    st.floats(0.01, 1),
    st.just(1e6),
    st.integers(10, 10**7),
)
TUNINGS = st.integers(10, 10**7).map(Tuning.for_units)


def wealth_by_integration(statistic: float, ripeness: float, *, one_sided: bool) -> float:
    """What a bet on a normal effect has won: the mean likelihood ratio over the mixture."""
    start = 0.0 if one_sided else -12.0

    def won(effect: float) -> float:
        shift = effect * math.sqrt(ripeness)
        return float(stats.norm.pdf(effect)) * math.exp(statistic * shift - shift * shift / 2)

    total, _ = integrate.quad(won, start, 12, epsabs=0, epsrel=1e-12, limit=400)
    return total * (2 if one_sided else 1)


@pytest.mark.parametrize("statistic", [0.0, 0.7, 2.5, -4.0])
@pytest.mark.parametrize("ripeness", [0.3, 8.2, 60.0])
def test_two_sided_p_value_is_the_inverse_of_the_wealth_of_a_normal_mixture(
    statistic: float, ripeness: float
) -> None:
    answer = two_sided(Difference(2 * statistic, 2.0, 1e9, 1_000), Tuning(ripeness / 1_000))
    wealth = wealth_by_integration(statistic, ripeness, one_sided=False)
    assert answer.p_value == pytest.approx(min(1, 1 / wealth), rel=1e-9)


@pytest.mark.parametrize("statistic", [0.5, 2.5, 4.0])
@pytest.mark.parametrize("ripeness", [0.3, 8.2, 60.0])
def test_above_zero_is_never_surer_than_the_mixture_over_positive_effects_and_hardly_less(
    statistic: float, ripeness: float
) -> None:
    answer = above_zero(Difference(2 * statistic, 2.0, 1e9, 1_000), Tuning(ripeness / 1_000))
    exact = min(1.0, 1 / wealth_by_integration(statistic, ripeness, one_sided=True))
    assert exact <= answer.p_value + 1e-12
    if exact < 0.05:
        assert answer.p_value < 1.05 * exact


@settings(deadline=None)
@given(GAPS, TUNINGS)
def test_two_sided_interval_leaves_zero_out_when_the_p_value_is_below_the_level(
    gap: Difference, tuning: Tuning
) -> None:
    answer = two_sided(gap, tuning)
    assume(abs(answer.p_value - 0.05) > 1e-9)
    assert (answer.p_value < 0.05) == (0.0 not in answer.interval)


@settings(deadline=None)
@given(GAPS, TUNINGS)
def test_above_zero_bound_is_above_zero_when_the_p_value_is_below_the_level(
    gap: Difference, tuning: Tuning
) -> None:
    answer = above_zero(gap, tuning)
    assume(abs(answer.p_value - 0.05) > 1e-9)
    assert (answer.p_value < 0.05) == (answer.interval.low > 0)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_narrowest_is_where_a_search_finds_the_narrowest_interval(level: float) -> None:
    def width(ripeness: float) -> float:
        return (ripeness + 1) / ripeness * (math.log1p(ripeness) - 2 * math.log(1 - level))

    found = optimize.minimize_scalar(width, bounds=(0.1, 100), method="bounded")
    assert narrowest(level) == pytest.approx(found.x, rel=1e-4)
    assert width(narrowest(level)) == pytest.approx(narrowest(level) + 1, rel=1e-9)


def test_tuning_makes_the_interval_narrowest_in_standard_errors_at_the_planned_units() -> None:
    def width(units: int) -> float:
        gap = Difference(0.0, 1.0, 1e9, units)
        return two_sided(gap, Tuning.for_units(20_000)).interval.high

    assert width(20_000) < min(width(10_000), width(40_000), width(2_000), width(200_000))
    assert width(20_000) == pytest.approx(3.035, abs=1e-3)


def test_tuning_refuses_a_plan_of_no_units() -> None:
    with pytest.raises(ValueError, match="1 or more units"):
        Tuning.for_units(0)
    assert Tuning.for_units(None) == Tuning.for_units(10_000)


def test_compare_always_has_no_verdict_before_the_first_look_and_without_variance() -> None:
    tuning = Tuning.for_units(1_000)
    early = compare_always(Estimate(99, 1, 1), Estimate(500, 2, 1), tuning)
    assert isinstance(early, NoVerdict)
    assert "99" in early.sentence
    none = compare_always(Estimate(0, 0, math.nan), Estimate(500, 2, 1), tuning)
    assert isinstance(none, NoVerdict)
    assert none.reason is NoVerdictReason.NO_UNITS
    flat = compare_always(Estimate(100, 1, 0), Estimate(500, 1, 0), tuning)
    assert isinstance(flat, NoVerdict)
    assert flat.reason is NoVerdictReason.ZERO_VARIANCE
    assert isinstance(compare_always(Estimate(100, 1, 1), Estimate(500, 1, 0), tuning), AlwaysValid)


def test_cautious_difference_has_the_greater_error_of_separate_and_pooled_variances() -> None:
    even = Estimate(500, 1, 4), Estimate(500, 2, 9)
    plain, cautious = difference(*even), cautious_difference(*even)
    assert isinstance(plain, Difference)
    assert isinstance(cautious, Difference)
    assert cautious.standard_error == pytest.approx(plain.standard_error, rel=1e-12)
    unmet = cautious_difference(Estimate(9_000, 0.01, 0.0099), Estimate(1_000, 0, 0))
    assert isinstance(unmet, Difference)
    assert unmet.standard_error == pytest.approx(math.sqrt(0.0099 * 0.9 / 1_000), rel=0.06)
    assert isinstance(cautious_difference(Estimate(1, 1, 1), Estimate(9, 1, 1)), NoVerdict)


def test_two_sided_and_above_zero_bear_effects_of_any_size() -> None:
    tuning = Tuning.for_units(1_000)
    for size in (1e-300, 1.0, 30.0, 1e6, 1e150):
        gap = Difference(size, 1.0, 100.0, 1_000)
        assert 0 <= two_sided(gap, tuning).p_value <= 1
        assert 0 <= above_zero(gap, tuning).p_value <= 1


def test_confidence_sequences_hold_a_brownian_path_at_all_of_its_looks() -> None:
    """The limit itself, without any metric: 2,000 paths of 300 looks."""
    rng = np.random.default_rng(51)
    units = np.arange(20, 6_020, 20)
    paths = rng.normal(0, math.sqrt(20), (2_000, 300)).cumsum(axis=1) / units
    reach = np.array(
        [
            two_sided(
                Difference(0, 1 / math.sqrt(n), 1e9, n), Tuning.for_units(2_000)
            ).interval.high
            for n in units.tolist()
        ]
    )
    assert (np.abs(paths) > reach).any(axis=1).mean() <= 0.05
    # Not needlessly wide either: it is an inequality, and looks are discrete.
    assert (np.abs(paths) > reach).any(axis=1).mean() > 0.005
