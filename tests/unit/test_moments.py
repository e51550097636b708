from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.moments import JointMoments, Moments

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=40)
PAIRS = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=40)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_moments_of_two_halves_add_up_to_those_of_the_whole(
    left: list[float], right: list[float]
) -> None:
    added, whole = Moments.of(left) + Moments.of(right), Moments.of(left + right)
    assert added.units == whole.units
    assert added.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert added.squares == pytest.approx(whole.squares, rel=1e-9, abs=1e-3)


@pytest.mark.parametrize("center", [0, 1, -1e3, 1e9, 1e15])
@pytest.mark.parametrize("spread", [1, 7.5, 1e3])
def test_moments_of_shifted_sums_are_those_of_two_passes(center: float, spread: float) -> None:
    values = np.random.default_rng(1).normal(center, spread, 5_000)
    shifted = values - center
    sums = Moments.from_sums(5_000, float(shifted.sum()), float((shifted**2).sum()), shift=center)
    assert sums.mean == pytest.approx(float(values.mean()), rel=1e-12)
    assert sums.variance == pytest.approx(float(shifted.var(ddof=1)), rel=1e-9)
    assert Moments.of(values).variance == pytest.approx(float(shifted.var(ddof=1)), rel=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 5.0, -1e15, 1e-200, 123456.789])
@pytest.mark.parametrize("units", [2, 1_000, 100_000])
def test_moments_have_no_variance_when_all_values_are_the_same(value: float, units: int) -> None:
    values = np.full(units, value)
    one_by_one = float(np.cumsum(values)[-1]), float(np.cumsum(values * values)[-1])
    assert Moments.from_sums(units, *one_by_one).variance == 0
    assert Moments.of(values).variance == 0
    assert Moments.from_sums(units, float(values.sum()), float((values**2).sum())).variance == 0


def test_moments_keep_a_variance_that_is_small_beside_the_mean() -> None:
    values = np.random.default_rng(2).normal(1e4, 0.1, 1_000)
    sums = Moments.from_sums(1_000, float(values.sum()), float((values**2).sum()))
    assert sums.variance == pytest.approx(float(values.var(ddof=1)), rel=1e-3)


@pytest.mark.parametrize("values", [[math.inf, 1.0], [math.nan, 1.0], [1e300, -1e300, 5.0]])
def test_moments_of_what_is_not_finite_say_so_and_do_not_raise(values: list[float]) -> None:
    assert not math.isfinite(Moments.of(values).variance)
    assert not math.isfinite(JointMoments.of(values, values).one(0).variance)


def test_moments_of_one_unit_have_no_variance_that_is_a_number() -> None:
    assert math.isnan(Moments.of([3.0]).variance)
    assert Moments.of([]) == Moments() == Moments.from_sums(0, 0.0, 0.0)


def test_moments_from_a_variance_are_those_of_the_values() -> None:
    values = [1.0, 4.0, 4.5, 9.0]
    moments = Moments.from_variance(4, float(np.mean(values)), float(np.var(values, ddof=1)))
    assert moments.squares == pytest.approx(Moments.of(values).squares)
    assert Moments.from_variance(1, 3.0, math.nan) + Moments(1, 5.0) == Moments(2, 4.0, 2.0)


def test_moments_refuse_less_than_no_units_and_negative_squares() -> None:
    with pytest.raises(ValueError, match="0 or more units"):
        Moments(-1)
    with pytest.raises(ValueError, match="not negative"):
        Moments(2, 0.0, -1.0)


@settings(deadline=None)
@given(PAIRS, PAIRS)
def test_joint_moments_of_two_halves_add_up_to_those_of_the_whole(
    left: list[tuple[float, float]], right: list[tuple[float, float]]
) -> None:
    added = JointMoments.of(*zip(*left, strict=True)) + JointMoments.of(*zip(*right, strict=True))
    whole = JointMoments.of(*zip(*(left + right), strict=True))
    assert added.means == pytest.approx(whole.means, rel=1e-9, abs=1e-6)
    for one, other in zip(added.products, whole.products, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-2)


def test_joint_moments_are_the_covariances_of_numpy_from_values_and_from_shifted_sums() -> None:
    rng = np.random.default_rng(3)
    covariances = np.array([[4, 1, 0], [1, 2, 0.5], [0, 0.5, 1]])
    rows = rng.multivariate_normal([1e9, 5, -3], covariances, 2_000).T
    shifts = [1e9, 5.0, 0.0]
    shifted = rows - np.array(shifts)[:, None]
    sums = JointMoments.from_sums(
        2_000, shifted.sum(axis=1).tolist(), (shifted @ shifted.T).tolist(), shifts
    )
    for moments in (JointMoments.of(*rows), sums):
        assert np.array(moments.products) / 1_999 == pytest.approx(np.cov(rows), rel=1e-8, abs=1e-9)


def test_joint_moments_from_covariances_are_those_of_the_values() -> None:
    rows = np.random.default_rng(6).normal(10, 3, (2, 50))
    moments = JointMoments.from_covariances(50, rows.mean(axis=1).tolist(), np.cov(rows).tolist())
    direct = JointMoments.of(*rows)
    assert np.array(moments.products) == pytest.approx(np.array(direct.products), rel=1e-9)
    nothing = [[math.nan, math.nan], [math.nan, math.nan]]
    assert JointMoments.from_covariances(1, [1, 2], nothing).products == ((0, 0), (0, 0))


def test_joint_moments_along_weights_are_the_moments_of_the_weighted_sum() -> None:
    rows = np.random.default_rng(4).normal(10, 3, (3, 500))
    weights = [2.0, -1.0, 0.5]
    along, direct = JointMoments.of(*rows).along(weights), Moments.of(np.array(weights) @ rows)
    assert along.mean == pytest.approx(direct.mean)
    assert along.variance == pytest.approx(direct.variance, rel=1e-12)


def test_joint_moments_along_weights_have_no_variance_when_the_sum_does_not_vary() -> None:
    x = np.random.default_rng(5).gamma(2, 3, 1_000)
    assert JointMoments.of(3 * x, x).along([1.0, -3.0]).variance == 0


def test_joint_moments_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="2 means go with 2 rows"):
        JointMoments(1, (1.0, 2.0), ((1.0,),))
    with pytest.raises(ValueError, match="do not add"):
        JointMoments.of([1.0], [2.0]) + JointMoments.of([1.0])
    assert JointMoments.of([], []).units == 0
