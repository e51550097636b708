from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

from analysis.estimates import Estimate
from analysis.moments import JointMoments
from analysis.ratios import DENOMINATOR_NEAR_ZERO, influence, ratio
from analysis.verdict import NoVerdict, NoVerdictReason


def answered(moments: JointMoments) -> Estimate:
    answer = ratio(moments)
    assert isinstance(answer, Estimate)
    return answer


@pytest.mark.parametrize("scale", [1, 1e-6, 1e9])
def test_ratio_has_the_error_of_a_regression_on_turns_that_is_clustered_by_unit(
    scale: float,
) -> None:
    """A second implementation: the ratio is the intercept of a regression on single turns."""
    rng = np.random.default_rng(21)
    turns = 1 + rng.poisson(3, 400)
    unit = np.repeat(np.arange(400), turns)
    values = scale * (rng.gamma(2, 1, 400)[unit] + rng.normal(0, 1, len(unit)))
    sums = np.bincount(unit, weights=values)
    clustered = sm.OLS(values, np.ones(len(unit))).fit(
        cov_type="cluster", cov_kwds={"groups": unit, "use_correction": False}
    )
    answer = answered(JointMoments.of(sums, turns))
    assert answer.value == pytest.approx(clustered.params[0], rel=1e-9)
    # Its variance divides by the number of units, ours by one less.
    assert answer.squared_error * 399 / 400 == pytest.approx(clustered.bse[0] ** 2, rel=1e-9)


def test_ratio_of_a_constant_denominator_is_the_mean() -> None:
    values = np.random.default_rng(22).normal(5, 2, 300)
    answer = answered(JointMoments.of(values, np.full(300, 4.0)))
    assert answer.value == pytest.approx(float(values.mean()) / 4, rel=1e-12)
    assert answer.unit_variance == pytest.approx(float(values.var(ddof=1)) / 16, rel=1e-9)


def test_ratio_has_no_variance_when_it_is_the_same_for_every_unit() -> None:
    turns = np.random.default_rng(23).gamma(3, 1, 300)
    assert answered(JointMoments.of(0.3 * turns, turns)).unit_variance == 0


def test_ratio_adds_up_from_parts() -> None:
    rng = np.random.default_rng(24)
    above, below = rng.poisson(2, 900), 1 + rng.poisson(3, 900)
    parts = [JointMoments.of(above[i::3], below[i::3]) for i in range(3)]
    whole = answered(JointMoments.of(above, below))
    added = answered(parts[0] + parts[1] + parts[2])
    assert added.value == pytest.approx(whole.value, rel=1e-12)
    assert added.unit_variance == pytest.approx(whole.unit_variance, rel=1e-12)


@pytest.mark.parametrize(
    ("above", "below", "reason"),
    [
        pytest.param([], [], NoVerdictReason.NO_UNITS, id="no units"),
        pytest.param([1.0], [2.0], NoVerdictReason.TOO_FEW_UNITS, id="one unit"),
        pytest.param(
            [1.0, 2, 3], [0.0, 0, 0], NoVerdictReason.DENOMINATOR_NEAR_ZERO, id="no turns at all"
        ),
        pytest.param(
            [0.0] * 9 + [5.0],
            [0.0] * 9 + [9.0],
            NoVerdictReason.DENOMINATOR_NEAR_ZERO,
            id="one unit has all turns",
        ),
        pytest.param(
            [1.0, 2, 3], [-3.0, -4, -5], NoVerdictReason.DENOMINATOR_NEAR_ZERO, id="negative"
        ),
        pytest.param([math.inf, 1], [1.0, 2], NoVerdictReason.NOT_FINITE, id="infinite"),
    ],
)
def test_ratio_has_no_verdict_but_a_reason_when_the_denominator_gives_none(
    above: list[float], below: list[float], reason: NoVerdictReason
) -> None:
    answer = ratio(JointMoments.of(above, below))
    assert isinstance(answer, NoVerdict)
    assert answer.reason is reason


def test_influence_takes_the_columns_that_it_is_told() -> None:
    moments = JointMoments.of([1.0, 2.0, 4.0], [9.0, 7.0, 8.0], [2.0, 2.0, 2.5])
    weights = influence(moments, 0, 2)
    assert not isinstance(weights, NoVerdict)
    assert weights[1] == 0
    assert moments.along(weights).mean == pytest.approx(0, abs=1e-15)
    assert influence(moments, 0, 1) is not DENOMINATOR_NEAR_ZERO
