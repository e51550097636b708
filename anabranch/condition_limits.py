"""What a condition may be made of and how large it may get, and the words for a place in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anabranch.condition_operators import is_scalar
from anabranch.condition_sentences import a, printable
from anabranch.errors import ConditionError

MOST_NODES = 1_000
DEEPEST = 20
_LISTING = frozenset({"$in", "$nin", "$ini", "$nini", "$all", "$alli"})
_LONGEST_PLACE = 120


def under(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def error_at(place: str, problem: object) -> ConditionError:
    if len(place) > _LONGEST_PLACE:
        place = f"{place[:_LONGEST_PLACE]}..."
    return ConditionError(printable(f"{place or 'The condition'} {problem}"))


class Measure:
    """Refuses what is no JSON or beyond the limits, before anything is made of it."""

    def __init__(self) -> None:
        self.nodes = 0

    def take(self, value: Any, place: str, depth: int, *, listing: bool = False) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise error_at(place, f"is {value}, which JSON does not have")
        if not (is_scalar(value) or isinstance(value, (list, Mapping))):
            raise error_at(place, f"is {a(value)}; write it as a text or a number, as in JSON")
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise ConditionError(
                f"The condition has more than {MOST_NODES:,} parts: make a saved group of the "
                "values, or split the experiment"
            )
        if is_scalar(value):
            return
        if depth > DEEPEST:
            raise error_at(place, f"is nested more than {DEEPEST} levels deep; flatten it")
        if isinstance(value, list):
            # The items of $in and the like have a limit of their own.
            plain = listing and all(map(_is_plain, value))
            for index, item in enumerate(() if plain else value):
                self.take(item, f"{place}[{index}]", depth + 1)
            return
        for key, item in value.items():
            if not isinstance(key, str):
                raise error_at(place, f"has the name {key!r}, which is no text; put it in quotes")
            self.take(item, under(place, key), depth + 1, listing=key in _LISTING)


def _is_plain(value: Any) -> bool:
    return is_scalar(value) and not (isinstance(value, float) and not math.isfinite(value))
