"""Parameters within their limits: what is moved, what is left out, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.definition_set import DefinitionSet
from anabranch.parameters import DEFAULT_LIMITS, Adjusted, Limit, resolve
from anabranch.reading import DefinitionError, read
from tests.every_experiment import Document


@pytest.mark.parametrize(
    ("value", "kept", "reason"),
    [
        (600, 600, None),
        (600.0, 600, None),
        (9_000, 4_096, Adjusted.CLAMPED),
        (-1, 0, Adjusted.CLAMPED),
        ("600", None, Adjusted.MISTYPED),
        (True, None, Adjusted.MISTYPED),
        (None, None, Adjusted.MISTYPED),
        (1.5, None, Adjusted.MISTYPED),
        (1e300, None, Adjusted.MISTYPED),
        (2**60, None, Adjusted.MISTYPED),
    ],
)
def test_number_is_kept_within_its_limit(value: Any, kept: Any, reason: Adjusted | None) -> None:
    found = resolve([{"max_output_tokens": value}], [DEFAULT_LIMITS])
    assert found.params.get("max_output_tokens") == kept
    assert [one.reason for one in found.adjustments] == ([reason] if reason else [])


def test_parameter_that_nobody_declared_is_left_out() -> None:
    found = resolve([{"colour": "red", "tone": "warm"}], [DEFAULT_LIMITS])
    assert found.params == {"tone": "warm"}
    (adjusted,) = found.adjustments
    assert (adjusted.parameter, adjusted.reason) == ("colour", Adjusted.UNKNOWN)
    assert adjusted.sentence.startswith("colour is left out: no limit declares it; declared are ")


def test_later_layers_are_laid_over_earlier_ones() -> None:
    found = resolve([{"tone": "plain", "max_acts": 1}, {"tone": "warm"}], [DEFAULT_LIMITS])
    assert found.params == {"tone": "warm", "max_acts": 1}


@pytest.mark.parametrize("limit", [{"minimum": 5_000}, {"allowed": [9_000]}])
def test_experiment_cannot_widen_what_the_installation_allows(limit: dict[str, Any]) -> None:
    own = {"max_output_tokens": Limit(type="integer", **limit)}
    found = resolve([{"max_output_tokens": 100}], [DEFAULT_LIMITS, own])
    assert found.params == {}
    assert [one.reason for one in found.adjustments] == [Adjusted.NOT_ALLOWED]


def test_experiment_may_narrow_what_the_installation_allows() -> None:
    own = {"max_output_tokens": Limit(type="integer", maximum=300)}
    found = resolve([{"max_output_tokens": 5_000}], [DEFAULT_LIMITS, own])
    assert found.params == {"max_output_tokens": 300}


def test_allowed_values_move_numbers_and_leave_texts_out() -> None:
    limits = {
        "size": Limit(type="integer", allowed=(1, 2, 4)),
        "tone": Limit(type="string", allowed=("warm", "plain")),
    }
    found = resolve([{"size": 7, "tone": "harsh"}], [limits])
    assert found.params == {"size": 4}
    assert [one.reason for one in found.adjustments] == [Adjusted.CLAMPED, Adjusted.NOT_ALLOWED]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 1}, "greater than the maximum"),
        ({"type": "string", "minimum": 3}, "are for numbers, and this is a string"),
        ({"type": "integer", "maximum": 1.5}, "no whole number"),
        ({"type": "integer", "maximum": 1e20}, "beyond 2^53"),
        ({"type": "integer", "allowed": ["a"]}, "allowed: is 'a'"),
    ],
)
def test_limit_that_means_nothing_is_refused(limit: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        read(Limit, limit)
    assert said in str(refused.value)


def test_parameter_set_gives_way_to_its_fallback_when_a_source_is_away() -> None:
    sets = [
        ("full_stack", {"max_acts": 3, "tone": "rich"}, ["maps_api"], "free_only"),
        ("free_only", {"max_acts": 1}, [], None),
    ]
    documents = [
        Document(
            *(f"parameter_set:{key}", 1, "running"),
            {"params": params, "needs": needs, "fallback": fallback},
        )
        for key, params, needs, fallback in sets
    ]
    variations = [
        {"key": "all", "weight": 10_000, "parameter_set": "full_stack", "params": {"tone": "own"}}
    ]
    tone = Document("tone", 1, "running", {"key": "tone", "variations": variations})
    definitions = DefinitionSet.of([tone, *documents])
    assert definitions.assign("tone", "u").params == {"max_acts": 3, "tone": "own"}
    assert definitions.assign("tone", "u", away=["maps_api"]).params == {
        "max_acts": 1,
        "tone": "own",
    }
    assert definitions.assign("tone", "u", away=["other"]).params == {"max_acts": 3, "tone": "own"}


def test_times_that_no_clock_shows_are_refused_with_a_sentence() -> None:
    from anabranch.definitions import Definition

    definition = {"key": "a", "variations": [{"key": "b", "weight": 10_000}]}
    with pytest.raises(DefinitionError, match="no time in UTC"):
        read(Definition, {**definition, "starts_at": "9999-12-31T23:59:59-01:00"})
