"""Single variations, and weights that follow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.reading import DefinitionError
from service.variation_changes import (
    NoVariationError,
    shared_out,
    with_change,
    with_variation,
    without_variation,
)


def variations(**weights: int) -> list[dict[str, Any]]:
    return [{"key": key, "weight": weight, "params": {}} for key, weight in weights.items()]


def weights(of: list[dict[str, Any]]) -> dict[str, int]:
    return {one["key"]: one["weight"] for one in of}


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=100), st.integers(0, 10_000))
def test_parts_add_up_and_are_within_one_of_their_share(given_: list[int], total: int) -> None:
    parts = shared_out(given_, total)
    assert sum(parts) == total
    whole = sum(given_)
    for part, weight in zip(parts, given_, strict=True):
        share = weight * total / whole if whole else total / len(given_)
        assert abs(part - share) < 1


def test_new_variation_takes_from_the_others_in_proportion() -> None:
    made = with_variation(
        variations(a=6_000, b=4_000), {"key": "c", "weight": 1_000}, rebalance=True
    )
    assert weights(made) == {"a": 5_400, "b": 3_600, "c": 1_000}


def test_new_variation_leaves_the_others_alone_where_that_is_wanted() -> None:
    made = with_variation(variations(a=6_000, b=4_000), {"key": "c", "weight": 0}, rebalance=False)
    assert weights(made) == {"a": 6_000, "b": 4_000, "c": 0}


def test_variation_is_added_once_and_as_a_whole() -> None:
    with pytest.raises(DefinitionError, match="key: is a, which there is already"):
        with_variation(variations(a=10_000), {"key": "a", "weight": 1}, rebalance=True)
    with pytest.raises(DefinitionError, match="weight: is missing"):
        with_variation(variations(a=10_000), {"key": "b"}, rebalance=True)


def test_change_without_a_new_weight_leaves_all_weights() -> None:
    made = with_change(variations(a=1, b=2), "b", {"name": "B"}, rebalance=True)
    assert weights(made) == {"a": 1, "b": 2}
    assert made[1]["name"] == "B"


def test_removed_variation_leaves_its_weight_to_the_others_even_to_those_that_had_none() -> None:
    made = without_variation(variations(a=0, b=0, c=10_000), "c", rebalance=True)
    assert weights(made) == {"a": 5_000, "b": 5_000}
    assert without_variation(variations(a=10_000), "a", rebalance=True) == []


def test_variation_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(NoVariationError, match="no variation has the key z; there are a, b"):
        with_change(variations(a=1, b=2), "z", {}, rebalance=True)
