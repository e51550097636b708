"""Single variations added, changed and removed, the weights of the others following. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anabranch.bucketing import WHOLE
from anabranch.definitions import Variation
from anabranch.reading import DefinitionError, Wrong, read
from service.json_changes import merged

Variations = list[dict[str, Any]]


class NoVariationError(Exception):
    """No variation has this key; the text names those that there are."""


def place_of(variations: Sequence[Mapping[str, Any]], key: str) -> int:
    for place, variation in enumerate(variations):
        if variation["key"] == key:
            return place
    keys = ", ".join(variation["key"] for variation in variations)
    raise NoVariationError(f"no variation has the key {key[:80]}; there are {keys}")


def with_variation(
    variations: Sequence[Mapping[str, Any]], given: Mapping[str, Any], *, rebalance: bool
) -> Variations:
    """The others give up, in proportion, what the new one takes."""
    added = _read(given)
    if any(one["key"] == added["key"] for one in variations):
        problem = f"is {added['key']}, which there is already; change that one by PATCH"
        raise DefinitionError((Wrong("key", problem),))
    return _balanced([*map(dict, variations), added], len(variations), rebalance=rebalance)


def with_change(
    variations: Sequence[Mapping[str, Any]],
    key: str,
    patch: Mapping[str, Any],
    *,
    rebalance: bool,
) -> Variations:
    place = place_of(variations, key)
    changed = _read(merged(variations[place], patch))
    made = [dict(one) for one in variations]
    made[place] = changed
    weighs_otherwise = changed["weight"] != variations[place]["weight"]
    return _balanced(made, place, rebalance=rebalance and weighs_otherwise)


def without_variation(
    variations: Sequence[Mapping[str, Any]], key: str, *, rebalance: bool
) -> Variations:
    """The others take, in proportion, what this one had."""
    place = place_of(variations, key)
    rest = [dict(one) for index, one in enumerate(variations) if index != place]
    return _balanced(rest, None, rebalance=rebalance and bool(rest))


def shared_out(weights: Sequence[int], total: int) -> list[int]:
    """In proportion to the weights, or evenly where they are all zero, adding up exactly.

    The largest remainders get the parts that are left over, the first of equals first.
    """
    shares = list(weights) if any(weights) else [1] * len(weights)
    whole = sum(shares)
    parts = [share * total // whole for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: -(shares[i] * total % whole))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts


def _balanced(variations: Variations, fixed: int | None, *, rebalance: bool) -> Variations:
    if not rebalance:
        return variations
    others = [one for index, one in enumerate(variations) if index != fixed]
    left = WHOLE - (0 if fixed is None else variations[fixed]["weight"])
    for one, weight in zip(
        others, shared_out([one["weight"] for one in others], left), strict=True
    ):
        one["weight"] = weight
    return variations


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    return read(Variation, given).model_dump(mode="json")
