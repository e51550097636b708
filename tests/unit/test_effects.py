from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.effects import compare, critical_t, delta_relative, fieller_relative, two_sided_p
from analysis.estimates import Estimate, Proportion, difference, mean
from analysis.moments import Moments
from analysis.verdict import Comparison, Effect, NoVerdict, NoVerdictReason

SHAPES = {
    "normal": lambda rng, n: rng.normal(5, 2, n),
    "large mean": lambda rng, n: rng.normal(1e5, 2, n),
    "skewed": lambda rng, n: rng.lognormal(0, 2, n),
    "counts": lambda rng, n: rng.poisson(0.4, n).astype(float),
    "ones and zeros": lambda rng, n: (rng.random(n) < 0.3).astype(float),
    "negative": lambda rng, n: -rng.gamma(2, 3, n),
    "tiny": lambda rng, n: rng.normal(3e-9, 1e-9, n),
    "huge": lambda rng, n: rng.normal(1e15, 1e14, n),
    "around zero": lambda rng, n: rng.standard_t(4, n),
}
ESTIMATES = st.builds(Estimate, st.integers(2, 10**6), st.floats(-100, 100), st.floats(1e-3, 1e3))


def seen(values: npt.ArrayLike) -> Estimate:
    return mean(Moments.of(values))


def compared(baseline: Estimate, arm: Estimate) -> Comparison:
    answer = compare(baseline, arm)
    assert isinstance(answer, Comparison)
    return answer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", [(2, 3), (40, 25), (5_000, 300)])
def test_compare_gives_the_numbers_of_welchs_test_in_scipy(
    shape: str, sizes: tuple[int, int]
) -> None:
    rng = np.random.default_rng(11)
    baseline, arm = (SHAPES[shape](rng, size) for size in sizes)
    if np.ptp(baseline) == np.ptp(arm) == 0:
        pytest.skip("a small sample without any spread")
    ours, theirs = (
        compared(seen(baseline), seen(arm)),
        stats.ttest_ind(arm, baseline, equal_var=False),
    )
    interval = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9)
    assert ours.degrees == pytest.approx(theirs.df, rel=1e-9)
    width = interval.high - interval.low
    assert ours.absolute.interval.low == pytest.approx(interval.low, rel=1e-9, abs=1e-9 * width)
    assert ours.absolute.interval.high == pytest.approx(interval.high, rel=1e-9, abs=1e-9 * width)


def test_compare_keeps_tiny_p_values_above_zero() -> None:
    assert 0 < compared(Estimate(10**6, 0, 1), Estimate(10**6, 0.05, 1)).p_value < 1e-200


@settings(deadline=None)
@given(ESTIMATES, ESTIMATES)
def test_compare_leaves_zero_out_of_both_intervals_together(
    baseline: Estimate, arm: Estimate
) -> None:
    answer = compared(baseline, arm)
    assume(abs(answer.p_value - 0.05) > 1e-6)
    assert (answer.p_value < 0.05) == (0.0 not in answer.absolute.interval)
    if isinstance(answer.relative, Effect):
        assert (answer.p_value < 0.05) == (0.0 not in answer.relative.interval)


@settings(deadline=None)
@given(ESTIMATES, ESTIMATES)
def test_fieller_relative_ends_where_the_test_of_that_ratio_is_just_significant(
    baseline: Estimate, arm: Estimate
) -> None:
    found = fieller_relative(baseline, arm, 2.0)
    if isinstance(found, Effect):
        # Near an unbounded interval, the ends lie so far away that digits are lost.
        assume(baseline.value > 2.1 * baseline.standard_error)
        assert found.interval.low <= found.value + 1e-9
        for end in (found.interval.low, found.interval.high):
            gap = difference(baseline, arm, multiple=1 + end)
            assert not isinstance(gap, NoVerdict)
            assert abs(gap.value) / gap.standard_error == pytest.approx(2.0, rel=1e-6)


def test_fieller_and_delta_relative_agree_when_the_baseline_is_far_from_zero() -> None:
    baseline, arm = Estimate(10**6, 50, 9), Estimate(10**6, 51, 9)
    fieller, delta = fieller_relative(baseline, arm, 1.96), delta_relative(baseline, arm, 1.96)
    assert isinstance(fieller, Effect)
    assert isinstance(delta, Effect)
    assert fieller.value == delta.value == pytest.approx(0.02)
    assert fieller.interval.low == pytest.approx(delta.interval.low, rel=1e-4)
    assert fieller.interval.high == pytest.approx(delta.interval.high, rel=1e-4)


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        pytest.param(Estimate(100, -5, 1), NoVerdictReason.NEGATIVE_BASELINE, id="negative"),
        pytest.param(Estimate(100, 0.1, 1), NoVerdictReason.BASELINE_NEAR_ZERO, id="near zero"),
        pytest.param(Estimate(100, -0.1, 1), NoVerdictReason.BASELINE_NEAR_ZERO, id="just below"),
        pytest.param(Estimate(100, 0, 0), NoVerdictReason.BASELINE_NEAR_ZERO, id="all zero"),
    ],
)
def test_compare_has_no_relative_effect_but_an_absolute_one_when_the_baseline_allows_none(
    baseline: Estimate, reason: NoVerdictReason
) -> None:
    answer = compared(baseline, Estimate(100, 3, 1))
    assert isinstance(answer.relative, NoVerdict)
    assert answer.relative.reason is reason
    assert answer.absolute.value == 3 - baseline.value


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param([], NoVerdictReason.NO_UNITS, id="an arm without units"),
        pytest.param([4.0], NoVerdictReason.TOO_FEW_UNITS, id="one unit"),
        pytest.param([math.inf, 1.0], NoVerdictReason.NOT_FINITE, id="infinite"),
        pytest.param([math.nan, 1.0], NoVerdictReason.NOT_FINITE, id="not a number"),
        pytest.param([1e200, -1e200], NoVerdictReason.NOT_FINITE, id="squares overflow"),
    ],
)
def test_compare_has_no_verdict_but_a_reason_when_an_arm_gives_none(
    values: list[float], reason: NoVerdictReason
) -> None:
    sound = seen([1.0, 2.0, 3.0])
    for pair in ((sound, seen(values)), (seen(values), sound)):
        answer = compare(*pair)
        assert isinstance(answer, NoVerdict)
        assert answer.reason is reason
        assert answer.sentence.endswith(".")


@pytest.mark.parametrize("value", [0.0, 0.1, 1e15])
def test_compare_has_no_verdict_when_nothing_varies(value: float) -> None:
    answer = compare(seen([value] * 50), seen([value] * 60))
    assert isinstance(answer, NoVerdict)
    assert answer.reason is NoVerdictReason.ZERO_VARIANCE


def test_compare_answers_when_only_one_arm_varies() -> None:
    answer = compared(seen([0.0] * 50), seen([0.0] * 40 + [1.0] * 10))
    assert 0 < answer.p_value < 0.05


def test_compare_takes_an_arm_without_an_event_yet_as_varying_like_the_other() -> None:
    rare = seen([0.0] * 890 + [1.0] * 10)
    answer = compared(rare, seen([0.0] * 100))
    theirs = stats.ttest_ind([0.0] * 100, [0.0] * 890 + [1.0] * 10, equal_var=True)
    assert answer.statistic == pytest.approx(theirs.statistic, rel=1e-9)
    assert answer.p_value > 0.2


def test_critical_t_and_two_sided_p_undo_each_other() -> None:
    for degrees in (1.5, 30, 1e9, math.inf):
        for level in (0.5, 0.95, 0.999):
            assert two_sided_p(critical_t(level, degrees), degrees) == pytest.approx(1 - level)
    with pytest.raises(ValueError, match="between 0 and 1"):
        critical_t(95, 10)


def test_proportion_estimate_is_the_mean_of_ones_and_zeros() -> None:
    direct = seen([1.0] * 7 + [0.0] * 13)
    assert Proportion(20, 7).estimate().unit_variance == pytest.approx(direct.unit_variance)
    assert math.isnan(Proportion(1, 1).estimate().unit_variance)
    with pytest.raises(ValueError, match="3 of 2 units"):
        Proportion(2, 3)
