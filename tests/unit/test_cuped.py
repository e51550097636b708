from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import statsmodels.api as sm

from analysis.cuped import Adjusted, adjusted_means, adjusted_ratios
from analysis.moments import JointMoments, Moments
from analysis.ratios import ratio
from analysis.strata import Stratified, post_stratified
from analysis.verdict import NoVerdict, NoVerdictReason

Arm = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def arms_with_past(count: int = 2) -> list[Arm]:
    rng = np.random.default_rng(41)
    drawn: list[Arm] = []
    for at in range(count):
        before = rng.gamma(2, 2, 300 + 50 * at)
        drawn.append((0.7 * before + rng.normal(at, 1, len(before)), before))
    return drawn


def adjusted(answer: Adjusted | NoVerdict) -> Adjusted:
    assert isinstance(answer, Adjusted)
    return answer


@pytest.mark.parametrize("count", [2, 3, 20])
def test_adjusted_means_differ_by_what_a_regression_with_the_past_finds(count: int) -> None:
    arms = arms_with_past(count)
    y = np.concatenate([now for now, _ in arms])
    before = np.concatenate([then for _, then in arms])
    arm = np.repeat(np.arange(count), [len(now) for now, _ in arms])
    columns = [np.ones(len(y)), before, *((arm == at).astype(float) for at in range(1, count))]
    found = sm.OLS(y, np.column_stack(columns)).fit().params
    ours = adjusted(adjusted_means([JointMoments.of(*one) for one in arms]))
    assert ours.theta == pytest.approx(found[1], rel=1e-9)
    effects = [one.value - ours.arms[0].value for one in ours.arms[1:]]
    assert effects == pytest.approx(list(found[2:]), rel=1e-9)


def test_adjusted_means_have_the_variance_of_the_adjusted_values() -> None:
    arms = arms_with_past()
    ours = adjusted(adjusted_means([JointMoments.of(*one) for one in arms]))
    for (now, before), one in zip(arms, ours.arms, strict=True):
        assert one.unit_variance == pytest.approx(
            float((now - ours.theta * before).var(ddof=1)), rel=1e-9
        )
    assert ours.variance_reduction == pytest.approx(1 - 1 / (0.49 * 8 + 1), abs=0.08)


def test_adjusted_means_keep_the_mean_over_all_arms() -> None:
    arms = arms_with_past()
    ours = adjusted(adjusted_means([JointMoments.of(*one) for one in arms]))
    weighted = sum(one.value * one.units for one in ours.arms)
    assert weighted == pytest.approx(sum(float(now.sum()) for now, _ in arms), rel=1e-12)


def test_adjusted_means_are_plain_ones_when_the_past_says_nothing_and_theta_is_zero() -> None:
    arms = arms_with_past()
    ours = adjusted(adjusted_means([JointMoments.of(*one) for one in arms], theta=0.0))
    assert ours.variance_reduction == 0
    assert ours.arms[0].value == pytest.approx(float(arms[0][0].mean()))


def test_adjusted_ratios_are_adjusted_means_when_the_denominators_are_one() -> None:
    arms = arms_with_past()
    means = adjusted(adjusted_means([JointMoments.of(*one) for one in arms]))
    as_ratios = [
        JointMoments.of(now, np.ones(len(now)), before, np.ones(len(now))) for now, before in arms
    ]
    ratios = adjusted(adjusted_ratios(as_ratios))
    assert ratios.theta == pytest.approx(means.theta, rel=1e-9)
    for one, other in zip(ratios.arms, means.arms, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-9)
        assert one.unit_variance == pytest.approx(other.unit_variance, rel=1e-9)


def test_adjusted_ratios_with_theta_zero_are_plain_ratios() -> None:
    rng = np.random.default_rng(42)
    columns = [rng.poisson(3, 500) + 1.0 for _ in range(4)]
    moments = JointMoments.of(*columns)
    (one, _) = adjusted(adjusted_ratios([moments, moments], theta=0.0)).arms
    assert one == ratio(moments)


def test_adjusted_have_no_verdict_when_there_is_no_past_or_no_unit() -> None:
    same = JointMoments.of([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    one = JointMoments.of([1.0], [2.0])
    none = JointMoments.of([], [])
    for arms, reason in [
        ([same, same], NoVerdictReason.NO_COVARIATE),
        ([same, one], NoVerdictReason.TOO_FEW_UNITS),
        ([same, none], NoVerdictReason.NO_UNITS),
    ]:
        answer = adjusted_means(arms)
        assert isinstance(answer, NoVerdict)
        assert answer.reason is reason
    zero = JointMoments.of([1.0, 2, 3], [1.0, 1, 1], [0.0, 0, 0], [0.0, 0, 0])
    answer = adjusted_ratios([zero, zero])
    assert isinstance(answer, NoVerdict)
    assert answer.reason is NoVerdictReason.NO_COVARIATE


def test_post_stratified_is_the_mean_over_segments_weighted_by_all_units() -> None:
    rng = np.random.default_rng(43)
    sizes = {"en": (60, 40), "de": (30, 50)}
    values = {
        name: [rng.normal(5 * len(name) + at, 1, n) for at, n in enumerate(pair)]
        for name, pair in sizes.items()
    }
    answer = post_stratified(
        {name: [Moments.of(one) for one in pair] for name, pair in values.items()}
    )
    assert isinstance(answer, Stratified)
    weights = {"en": 100 / 180, "de": 80 / 180}
    for at, one in enumerate(answer.arms):
        value = sum(weights[name] * float(values[name][at].mean()) for name in sizes)
        error = sum(
            weights[name] ** 2 * float(values[name][at].var(ddof=1)) / sizes[name][at]
            for name in sizes
        )
        assert one.value == pytest.approx(value, rel=1e-12)
        assert one.squared_error == pytest.approx(error, rel=1e-12)
    assert answer.merged == ()


def test_post_stratified_puts_small_segments_together_and_names_them() -> None:
    big = [Moments(500, 1.0, 400.0), Moments(500, 1.1, 400.0)]
    small = [Moments(15, 3.0, 20.0), Moments(12, 3.0, 20.0)]
    tiny = [Moments(1, 9.0, 0.0), Moments(0)]
    answer = post_stratified({"en": big, "de": small, "fr": small, "xx": tiny})
    assert isinstance(answer, Stratified)
    assert answer.merged == ("de", "fr", "xx")
    assert [one.units for one in answer.arms] == [531, 524]
    alone = post_stratified({"en": big, "xx": tiny})
    assert isinstance(alone, Stratified)
    assert [one.units for one in alone.arms] == [501, 500]
    nothing = post_stratified({"xx": tiny})
    assert isinstance(nothing, NoVerdict)
    assert post_stratified({}) == NoVerdict(NoVerdictReason.NO_UNITS, nothing.sentence)
