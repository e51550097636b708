from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.sketches import (
    bounds_of,
    bucket_of,
    counted,
    merge,
    quantile,
    quantile_sql,
    runs,
)

SMALLEST_NORMAL = 2.0**-1022
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
NORMAL_DOUBLES = DOUBLES.filter(lambda value: value == 0 or abs(value) >= SMALLEST_NORMAL)
SAMPLES = st.lists(NORMAL_DOUBLES, min_size=1, max_size=60)
WHOLE_SAMPLES = st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=60)
SHARES = st.floats(0, 1)


def bucket_by_hand(value: float) -> int:
    """From the exponent and the fraction as numbers: none of the bits that the product shifts."""
    if abs(value) < SMALLEST_NORMAL:
        bucket = math.floor(math.ldexp(abs(value), 1028))
    else:
        fraction, exponent = math.frexp(abs(value))
        bucket = (exponent + 1022) * 64 + math.floor((2 * fraction - 1) * 64)
    return -bucket if value < 0 else bucket


def histogram_of(values: list[float] | list[int]) -> dict[int, int]:
    return dict(Counter(bucket_of(np.array(values, dtype=np.float64)).tolist()))


def exact_quantile(values: list[float] | list[int], q: float) -> float:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


@given(st.lists(DOUBLES, max_size=60))
def test_bucket_of_is_what_exponent_and_fraction_say(values: list[float]) -> None:
    assert bucket_of(np.array(values)).tolist() == [bucket_by_hand(value) for value in values]


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(0, 0), (-0.0, 0), (0.5, 65408), (1, 65472), (2, 65536), (812, 66085), (-5, -65616)],
)
def test_bucket_of_never_changes_for_what_is_stored(value: float, bucket: int) -> None:
    assert bucket_of(np.array([value])).tolist() == [bucket]


@given(st.lists(DOUBLES, max_size=60))
def test_bucket_of_never_falls_when_values_rise(values: list[float]) -> None:
    assert (np.diff(bucket_of(np.array(sorted(values)))) >= 0).all()


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
def test_bucket_of_is_the_same_for_integers_and_for_doubles(values: list[int]) -> None:
    whole = np.array(values, dtype=np.int32)
    assert bucket_of(whole).tolist() == bucket_of(whole.astype(np.float64)).tolist()


@given(NORMAL_DOUBLES)
def test_bounds_of_hold_the_value_and_are_no_wider_than_one_64th_of_it(value: float) -> None:
    low, high = bounds_of(int(bucket_of(np.array([value]))[0]))
    assert low <= value <= high
    if value and math.isfinite(high - low):
        assert high - low <= abs(value) / 64


@given(SAMPLES, SHARES)
def test_quantile_is_within_one_percent_of_the_exact_one(values: list[float], q: float) -> None:
    exact = exact_quantile(values, q)
    found = quantile(histogram_of(values), q, min(values), max(values))
    assert found is not None
    assert abs(found - exact) <= 0.01 * abs(exact)


def test_quantile_stays_near_when_two_values_exceed_the_range_together() -> None:
    values = [1.60e308, 1.61e308, 1.79e308]
    found = quantile(histogram_of(values), 0.5, values[0], values[-1])
    assert found == pytest.approx(1.61e308, rel=0.01)


@given(WHOLE_SAMPLES, SHARES)
def test_quantile_without_its_fraction_is_as_near_when_values_are_whole(
    values: list[int], q: float
) -> None:
    exact = exact_quantile(values, q)
    found = quantile(histogram_of(values), q, min(values), max(values))
    assert found is not None
    assert abs(int(found) - exact) <= (0.01 * abs(exact) if abs(exact) >= 128 else 0)


@given(NORMAL_DOUBLES, SHARES, st.integers(1, 5))
def test_quantile_is_exact_when_all_values_are_one(value: float, q: float, times: int) -> None:
    assert quantile(histogram_of([value] * times), q, value, value) == value


def test_quantile_gives_no_answer_when_there_is_no_value() -> None:
    assert quantile({}, 0.5, 0, 0) is None


@pytest.mark.parametrize("q", [-0.01, 1.01, math.nan])
def test_quantile_is_refused_when_it_is_no_share(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile({0: 1}, q, 0, 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_sql("histogram", q, "min", "max")


@given(SAMPLES, st.lists(DOUBLES, max_size=20))
def test_merge_of_two_parts_is_the_histogram_of_the_whole(
    one: list[float], other: list[float]
) -> None:
    assert merge(histogram_of(one), histogram_of(other)) == histogram_of(one + other)


def test_merge_of_nothing_is_empty_and_leaves_what_it_merges_alone() -> None:
    part = {1: 2}
    assert merge() == {}
    assert merge(part, {1: 1}) == {1: 3}
    assert part == {1: 2}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), max_size=80))
def test_counted_counts_pairs_in_order_when_codes_are_dense(pairs: list[tuple[int, int]]) -> None:
    assert_counts(pairs)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(-(2**17), 2**17)), max_size=40))
def test_counted_counts_pairs_in_order_when_codes_are_far_apart(
    pairs: list[tuple[int, int]],
) -> None:
    assert_counts(pairs)


def assert_counts(pairs: list[tuple[int, int]]) -> None:
    group = np.array([pair[0] for pair in pairs], dtype=np.int64)
    codes = np.array([pair[1] for pair in pairs], dtype=np.int32)
    found = counted(group, codes)
    seen = list(zip(found.group.tolist(), found.code.tolist(), strict=True))
    assert seen == sorted(set(pairs))
    assert dict(zip(seen, found.times.tolist(), strict=True)) == Counter(pairs)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-3, 3), st.integers(1, 9)), max_size=60))
def test_runs_add_up_what_is_in_order(entries: list[tuple[int, int, int]]) -> None:
    entries.sort()
    expected: Counter[tuple[int, int]] = Counter()
    for group, code, times in entries:
        expected[group, code] += times
    columns = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    found = runs(*columns)
    seen = list(zip(found.group.tolist(), found.code.tolist(), strict=True))
    assert dict(zip(seen, found.times.tolist(), strict=True)) == dict(expected)
    assert seen == sorted(expected)
