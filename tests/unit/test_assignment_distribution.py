"""Units are shared out as the weights say, experiments are independent, and ramps move nobody.

The hash is GrowthBook's: golden values made by its Python package, and that package itself. For a
million units it is done in numpy, which is compared with ours first. All seeds are fixed, so a test
that holds holds always; a p-value below 0.0001 would mean a hash that is no longer even.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from growthbook.core import gbhash
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from anabranch.bucketing import (
    WHOLE,
    Bucketing,
    HashVersion,
    Range,
    fnv1a,
    overlap,
    share_range,
    variation_ranges,
)

Words = NDArray[np.uint64]
Buckets = NDArray[np.float64]

LEAST_P = 0.0001
UNITS = 50_000

WEIGHTS = (
    (5_000, 5_000),
    (1, 9_999),
    (9_999, 1),
    (1_000, 9_000),
    (3_333, 3_333, 3_334),
    (2_500, 2_500, 2_500, 2_500),
    (100, 900, 4_000, 5_000),
    (0, 10_000),
    (0, 5_000, 0, 5_000),
    tuple([1_000] * 10),
    tuple([100] * 100),
    (1, 2, 3, 4, 9_990),
)

# Seed, unit, gbhash(seed, unit, 1), gbhash(seed, unit, 2): made by growthbook 4.0.0 for Python.
GOLDEN = [
    ("", "a", 0.22, 0.0216),
    ("b", "a", 0.946, 0.665),
    ("npc_tone", "mfrggzdfmztwq2lkmfrggzdfmu", 0.467, 0.9954),
    ("npc_tone", "session-1", 0.577, 0.7154),
    ("asdf", "8952klfjas09ujk", 0.549, 0.8546),
    ("", "123", 0.011, 0.4547),
    ("n\xe4her", "Zo\xeb", 0.972, 0.871),
    ("emoji \U0001f600", "player-\U0001f9d9\u200d\u2640", 0.472, 0.4164),
    ("__chat", "u1", 0.943, 0.3586),
    ("another seed, with spaces", "\u4f60\u597d", 0.429, 0.3764),
]


def folded(text: Words, state: Words) -> Words:
    """FNV-1a of 32 bits, of one text of ASCII in each row."""
    for column in text.T:
        # A zero is where a text has ended.
        state = np.where(column > 0, ((state ^ column) * 0x01000193) & 0xFFFFFFFF, state)
    return state


def rows_of(texts: NDArray[np.str_]) -> Words:
    return texts.view(np.uint32).reshape(len(texts), -1).astype(np.uint64)


def buckets(seed: str, units: NDArray[np.str_]) -> Buckets:
    """By version 2."""
    first = folded(rows_of(units), np.full(len(units), fnv1a(seed), np.uint64))
    again = folded(rows_of(first.astype(np.str_)), np.full(len(units), fnv1a(""), np.uint64))
    return again % WHOLE / WHOLE


def shares_of(found: Buckets, ranges: tuple[Range, ...]) -> list[int]:
    return [int(np.count_nonzero((start <= found) & (found < end))) for start, end in ranges]


def buckets_of(ranges: tuple[Range, ...]) -> list[int]:
    """How many of all buckets each range holds."""
    return shares_of(np.arange(WHOLE) / WHOLE, ranges)


def places_of(found: Buckets, ranges: tuple[Range, ...]) -> NDArray[np.int64]:
    """The variation of each unit, and -1 for those that are not covered."""
    places = np.full(len(found), -1)
    for place, (start, end) in enumerate(ranges):
        places[(start <= found) & (found < end)] = place
    return places


def some_units(seed: int, count: int = UNITS) -> NDArray[np.str_]:
    """Half of them random as pseudonyms are, half numbered, as many ids are."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz234567"))
    chosen = np.random.default_rng(seed).choice(letters, size=(count // 2, 26))
    numbered = [f"session-{number}" for number in range(seed * count, seed * count + count // 2)]
    return np.array(["".join(row) for row in chosen] + numbered)


@pytest.fixture(scope="module")
def units() -> NDArray[np.str_]:
    return some_units(1)


def test_vectorised_hash_is_ours(units: NDArray[np.str_]) -> None:
    ours = Bucketing("npc_tone")
    sample = [*range(0, UNITS, 97)]
    vectorised = buckets("npc_tone", units)
    assert [ours(str(units[place])) for place in sample] == vectorised[sample].tolist()


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda weights: "-".join(map(str, weights[:5])))
@pytest.mark.parametrize("coverage", [10_000, 2_500])
def test_units_are_shared_out_as_the_weights_say(
    units: NDArray[np.str_], weights: tuple[int, ...], coverage: int
) -> None:
    # 24 cases of 50,000: over a million decisions, each case with a seed of its own.
    found = buckets(f"{weights[:5]}-{coverage}", units)
    ranges = variation_ranges(weights, coverage)
    shares = [*shares_of(found, ranges)]
    held = buckets_of(ranges)
    for parts, weight in zip(held, weights, strict=True):
        # There are 10,000 buckets, and one that a range begins in is in it as a whole.
        assert 0 <= parts - weight * coverage / WHOLE < 1
    cells = [*zip(shares, held, strict=True), (UNITS - sum(shares), WHOLE - sum(held))]
    assert all(share == 0 for share, parts in cells if parts == 0)
    cells = [cell for cell in cells if cell[1]]
    if len(cells) > 1:
        expected = [UNITS * parts / WHOLE for _, parts in cells]
        assert stats.chisquare([share for share, _ in cells], expected).pvalue > LEAST_P


def test_every_bucket_is_used_alike() -> None:
    found = buckets("even", some_units(2, 200_000))
    counted = np.bincount((found * WHOLE).round().astype(int), minlength=WHOLE)
    assert len(counted) == WHOLE
    assert stats.chisquare(counted).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("npc_tone", "npc_tone2"),
        ("a", "b"),
        ("experiment_1", "experiment_2"),
        ("", "x"),
        ("x", "X"),
    ],
)
def test_experiments_are_independent(units: NDArray[np.str_], first: str, second: str) -> None:
    ranges = variation_ranges((2_500, 2_500, 5_000), WHOLE)
    table = np.zeros((3, 3))
    both = (places_of(buckets(first, units), ranges), places_of(buckets(second, units), ranges))
    np.add.at(table, both, 1)
    assert stats.chi2_contingency(table).pvalue > LEAST_P


def test_namespaces_and_holdouts_are_independent_of_the_experiments_in_them(
    units: NDArray[np.str_],
) -> None:
    in_holdout = buckets("holdout:winter", units) < share_range(1_000).end
    table = np.zeros((2, 2))
    variation = places_of(buckets("npc_tone", units), variation_ranges((5_000, 5_000), WHOLE))
    np.add.at(table, (in_holdout.astype(int), variation), 1)
    assert stats.chi2_contingency(table).pvalue > LEAST_P
    assert stats.binomtest(int(in_holdout.sum()), UNITS, 0.1).pvalue > LEAST_P


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda weights: "-".join(map(str, weights[:5])))
def test_ramp_moves_nobody_between_variations(
    units: NDArray[np.str_], weights: tuple[int, ...]
) -> None:
    found = buckets("ramp", units)
    before = np.full(UNITS, -1)
    for coverage in (0, 1, 10, 100, 500, 2_500, 3_333, 5_000, 9_999, 10_000):
        now = places_of(found, variation_ranges(weights, coverage))
        moved = (before >= 0) & (now != before)
        assert not moved.any()
        before = now
    assert (before >= 0).all()


@given(
    st.lists(st.integers(0, 1_000), min_size=1, max_size=20).filter(any),
    st.integers(0, WHOLE),
    st.integers(0, WHOLE),
)
def test_ranges_grow_with_coverage_and_never_touch(
    parts: list[int], coverage: int, more: int
) -> None:
    weights = [part * WHOLE // sum(parts) for part in parts]
    weights[0] += WHOLE - sum(weights)
    low, high = sorted((coverage, more))
    fewer, wider = variation_ranges(weights, low), variation_ranges(weights, high)
    for one, other in zip(fewer, wider, strict=True):
        assert one.start == other.start
        assert one.end <= other.end
    for one, following in pairwise(wider):
        assert one.end <= following.start
    assert variation_ranges(weights, WHOLE)[-1].end == 1.0


def test_overlap_of_two_phases_holds_only_what_both_hold() -> None:
    assert overlap(Range(0.0, 0.5), Range(0.25, 1.0)) == Range(0.25, 0.5)
    assert overlap(Range(0.0, 0.5), Range(0.5, 1.0)) == Range(0.0, 0.0)


@pytest.mark.parametrize(("seed", "unit", "first", "second"), GOLDEN)
def test_hash_is_the_published_one(seed: str, unit: str, first: float, second: float) -> None:
    assert (Bucketing(seed, 1)(unit), Bucketing(seed, 2)(unit)) == (first, second)


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from([1, 2]))
def test_hash_is_that_of_growthbook(seed: str, unit: str, version: HashVersion) -> None:
    assert Bucketing(seed, version)(unit) == gbhash(seed, unit, version)


def test_bucket_stays_the_same_when_it_is_kept_and_when_it_is_forgotten() -> None:
    bucketing = Bucketing("kept")
    some = [f"u{number}" for number in range(3_000)]
    first = [bucketing(unit) for unit in some]
    assert first == [bucketing.bucket_of(unit) for unit in some]
    assert [bucketing(unit) for unit in reversed(some)] == first[::-1]
    assert [bucketing(unit) for unit in some] == first
