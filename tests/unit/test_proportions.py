from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize
from statsmodels.stats.proportion import (
    proportions_ztest,
    score_test_proportions_2indep,
)

from analysis.estimates import Proportion
from analysis.proportions import _likeliest_baseline, compare_proportions
from analysis.verdict import Comparison, Effect, NoVerdict, NoVerdictReason

CASES = [
    (Proportion(100, 5), Proportion(110, 9)),
    (Proportion(50, 1), Proportion(60, 3)),
    (Proportion(80, 48), Proportion(70, 56)),
    (Proportion(9, 3), Proportion(9, 5)),
    (Proportion(200_000, 12_345), Proportion(201_000, 12_890)),
    (Proportion(10**9, 10**7), Proportion(10**9, 10**7 + 5_000)),
]


@st.composite
def proportions(draw: st.DrawFn) -> Proportion:
    units = draw(st.integers(1, 10**6))
    return Proportion(units, draw(st.integers(0, units)))


def compared(baseline: Proportion, arm: Proportion) -> Comparison:
    answer = compare_proportions(baseline, arm)
    assert isinstance(answer, Comparison)
    return answer


@pytest.mark.parametrize(("baseline", "arm"), CASES)
def test_compare_proportions_has_the_p_value_of_the_pooled_z_test(
    baseline: Proportion, arm: Proportion
) -> None:
    statistic, p_value = proportions_ztest(
        [arm.successes, baseline.successes], [arm.units, baseline.units]
    )
    answer = compared(baseline, arm)
    assert answer.statistic == pytest.approx(statistic, rel=1e-9)
    assert answer.p_value == pytest.approx(p_value, rel=1e-9)


@pytest.mark.parametrize(("baseline", "arm"), CASES)
def test_compare_proportions_ends_where_the_score_test_of_the_ratio_is_just_significant(
    baseline: Proportion, arm: Proportion
) -> None:
    relative = compared(baseline, arm).relative
    assert isinstance(relative, Effect)
    for end in (relative.interval.low, relative.interval.high):
        _, p_value = score_test_proportions_2indep(
            arm.successes,
            arm.units,
            baseline.successes,
            baseline.units,
            value=1 + end,
            compare="ratio",
            correction=False,
            return_results=False,
        )
        assert p_value == pytest.approx(0.05, rel=1e-6)


def test_compare_proportions_gives_the_interval_that_newcombe_published() -> None:
    """Newcombe (1998), Statistics in Medicine 17, table II, method 5 (Mee): 56/70 - 48/80."""
    interval = compared(Proportion(80, 48), Proportion(70, 56)).absolute.interval
    assert (interval.low, interval.high) == pytest.approx((0.0533, 0.3377), abs=5e-5)


@pytest.mark.parametrize("difference", [-0.3, -0.05, 0.01, 0.1, 0.4])
@pytest.mark.parametrize(("baseline", "arm"), CASES[:4])
def test_likeliest_baseline_is_where_a_search_finds_the_greatest_likelihood(
    baseline: Proportion, arm: Proportion, difference: float
) -> None:
    """Not against statsmodels 0.15: it takes successes for units in one term of the cubic."""

    def unlikely(share: float) -> float:
        return -math.fsum(
            one.successes * math.log(p) + (one.units - one.successes) * math.log1p(-p)
            for one, p in ((baseline, share), (arm, share + difference))
        )

    ends = max(0.0, -difference) + 1e-12, min(1.0, 1 - difference) - 1e-12
    found = optimize.minimize_scalar(
        unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}
    )
    assert _likeliest_baseline(baseline, arm, difference) == pytest.approx(found.x, abs=1e-7)


@settings(deadline=None)
@given(proportions(), proportions())
def test_compare_proportions_agrees_with_itself_and_stays_within_what_proportions_can_be(
    baseline: Proportion, arm: Proportion
) -> None:
    answer = compare_proportions(baseline, arm)
    if isinstance(answer, NoVerdict):
        assert answer.reason is NoVerdictReason.ZERO_VARIANCE
        return
    absolute = answer.absolute
    assert -1 <= absolute.interval.low <= absolute.value <= absolute.interval.high <= 1
    assume(abs(answer.p_value - 0.05) > 1e-9)
    assert (answer.p_value < 0.05) == (0.0 not in absolute.interval)
    if isinstance(answer.relative, Effect):
        assert -1 <= answer.relative.interval.low <= answer.relative.value + 1e-12
        assert (answer.p_value < 0.05) == (0.0 not in answer.relative.interval)


@pytest.mark.parametrize(
    ("baseline", "arm", "reason"),
    [
        pytest.param(Proportion(0, 0), Proportion(5, 2), NoVerdictReason.NO_UNITS, id="no units"),
        pytest.param(Proportion(9, 0), Proportion(5, 0), NoVerdictReason.ZERO_VARIANCE, id="none"),
        pytest.param(Proportion(9, 9), Proportion(5, 5), NoVerdictReason.ZERO_VARIANCE, id="all"),
    ],
)
def test_compare_proportions_has_no_verdict_when_nothing_can_differ(
    baseline: Proportion, arm: Proportion, reason: NoVerdictReason
) -> None:
    answer = compare_proportions(baseline, arm)
    assert isinstance(answer, NoVerdict)
    assert answer.reason is reason


def test_compare_proportions_has_no_relative_effect_when_none_of_the_baseline_succeeded() -> None:
    answer = compared(Proportion(50, 0), Proportion(60, 3))
    assert isinstance(answer.relative, NoVerdict)
    assert answer.relative.reason is NoVerdictReason.BASELINE_NEAR_ZERO
    assert answer.absolute.interval.low < 0 < answer.absolute.interval.high


def test_compare_proportions_has_bounds_when_all_of_one_and_none_of_the_other_succeeded() -> None:
    answer = compared(Proportion(100, 100), Proportion(100, 0))
    assert answer.absolute.interval.low == -1
    assert -0.97 < answer.absolute.interval.high < -0.95
