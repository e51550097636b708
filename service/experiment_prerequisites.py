"""Experiments that build on others: no circles, and no decision that takes too many. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Definition
from anabranch.plans import Status

MOST_DECISIONS = 100
"""That one decision may take, with all its prerequisites."""
DEEPEST_PREREQUISITES = 10


def wanted_by(definition: Definition) -> tuple[str, ...]:
    return tuple(wanted.experiment for wanted in definition.prerequisites)


def endless(key: str, wanted_of: Mapping[str, tuple[str, ...]]) -> str | None:
    """What is wrong with the prerequisites of this experiment and of those that build on it."""
    if cycle := _cycle(key, wanted_of):
        return f"they go round in a circle: {' needs '.join(cycle)}"
    costs: dict[str, tuple[int, int]] = {}

    def cost(one: str, seen: tuple[str, ...] = ()) -> tuple[int, int]:
        """Decisions and depth. A circle elsewhere in the log has been there before us."""
        if one in costs or one in seen:
            return costs.get(one, (1, 1))
        below = [cost(other, (*seen, one)) for other in wanted_of.get(one, ())]
        found = (
            1 + sum(decisions for decisions, _ in below),
            1 + max((depth for _, depth in below), default=0),
        )
        costs[one] = (min(found[0], 10 * MOST_DECISIONS), found[1])
        return costs[one]

    for one in wanted_of:
        decisions, depth = cost(one)
        if key not in (one, *_all_below(one, wanted_of)):
            continue
        if depth - 1 > DEEPEST_PREREQUISITES:
            return (
                f"{one} would stand on {depth - 1} others, one on the other; the limit is "
                f"{DEEPEST_PREREQUISITES}"
            )
        if decisions > MOST_DECISIONS:
            return (
                f"a decision of {one} would take {decisions:,} or more decisions of others; the "
                f"limit is {MOST_DECISIONS}"
            )
    return None


def _cycle(key: str, wanted_of: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """The shortest way from the experiment back to itself."""
    ways, seen = [[key]], {key}
    while ways:
        longer = []
        for way in ways:
            for other in wanted_of.get(way[-1], ()):
                if other == key:
                    return [*way, key]
                if other not in seen:
                    seen.add(other)
                    longer.append([*way, other])
        ways = longer
    return None


def _all_below(key: str, wanted_of: Mapping[str, tuple[str, ...]]) -> set[str]:
    found: set[str] = set()
    rest = [key]
    while rest:
        fresh = [other for other in wanted_of.get(rest.pop(), ()) if other not in found]
        found.update(fresh)
        rest += fresh
    return found


def users_of(key: str, definitions: DefinitionSet) -> list[str]:
    """The experiments that have this one as a prerequisite."""
    return [
        other
        for other, plan in definitions.plans.items()
        if key in wanted_by(plan.definition) and plan.status is not Status.ARCHIVED
    ]
