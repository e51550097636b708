"""Experiments as features for GrowthBook's SDKs: the same answers, by somebody else's code.

A feature has the key of its experiment; its value is the parameters, its default those of the
control. Its rules say in GrowthBook's words what anabranch/plans.py does, in the same order. Ranges
are sent ready, from the same arithmetic, so that no SDK has to add weights up by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from anabranch.bucketing import WHOLE
from anabranch.definition_set import DefinitionSet
from anabranch.plans import Plan, Status, holdout_seed, locale_condition

_NOBODY = ""
"""What the feature of an experiment's variation is for units that are not in it."""


class Features(NamedTuple):
    payload: Mapping[str, Any]
    until: float
    """When something begins, ends or ramps up next, in seconds since 1970."""


def features(definitions: DefinitionSet, at: float, updated_ms: int) -> Features:
    plans = definitions.plans
    wanted = {p.experiment for plan in plans.values() for p in plan.definition.prerequisites}
    found: dict[str, Any] = {key: _feature(definitions, plan, at) for key, plan in plans.items()}
    for key in wanted & plans.keys():
        found[_of_variation(key)] = _variation_feature(definitions, plans[key], at)
    groups = {name: sorted_values(g) for name, g in definitions.surroundings.groups.items()}
    for key in plans:
        for variation, units in definitions.members(key).items():
            groups[_members_group(key, variation)] = with_numbers(sorted(units))
    payload = {
        "status": 200,
        "features": found,
        "savedGroups": groups,
        "dateUpdated": datetime.fromtimestamp(updated_ms / 1000, UTC).isoformat(),
    }
    return Features(payload, min(_boundaries(plans.values(), at), default=float("inf")))


def with_numbers(units: Iterable[str]) -> list[str | int | float]:
    """With the number beside the text of one: attributes may hold a unit as either."""
    found: list[str | int | float] = []
    for unit in units:
        found.append(unit)
        if unit.isascii() and unit.isdecimal() and len(unit) <= 15 and str(int(unit)) == unit:
            found.append(int(unit))
    return found


def sorted_values(group: Iterable[str | int | float]) -> list[str | int | float]:
    return sorted(group, key=lambda value: (isinstance(value, str), value))


def _feature(definitions: DefinitionSet, plan: Plan, at: float) -> dict[str, Any]:
    values = [dict(plan.params(index).params) for index in range(len(plan.keys))]
    feature: dict[str, Any] = {"defaultValue": values[0]}
    if plan.status_at(at) is Status.RUNNING:
        forced = [
            {"id": f"forced:{plan.keys[index]}", "condition": condition, "force": values[index]}
            for index, condition in _forced(plan)
        ]
        feature["rules"] = [*forced, *_rules(definitions, plan, at, values)]
    return feature


def _variation_feature(definitions: DefinitionSet, plan: Plan, at: float) -> dict[str, Any]:
    """The key of the unit's variation, for the experiments that ask for it first."""
    feature: dict[str, Any] = {"defaultValue": _NOBODY}
    if plan.status_at(at) is Status.RUNNING:
        forced = [{"condition": condition, "force": _NOBODY} for _, condition in _forced(plan)]
        feature["rules"] = [*forced, *_rules(definitions, plan, at, plan.keys)]
    return feature


def _rules(
    definitions: DefinitionSet, plan: Plan, at: float, values: Sequence[Any]
) -> list[dict[str, Any]]:
    definition = plan.definition
    conditions = [for_every_sdk(definition.targeting)] if definition.targeting else []
    if definition.locales:
        conditions.append(locale_condition(definition.locales))
    common: dict[str, Any] = {
        "key": definition.key,
        "name": definition.name or definition.key,
        "phase": str(len(definition.phases)),
        "hashAttribute": definition.unit,
        "hashVersion": definition.hash_version,
        "seed": definition.hash_seed,
        "variations": list(values),
        "meta": [{"key": one.key, "name": one.name or one.key} for one in definition.variations],
    }
    if filters := _filters(definitions, plan):
        common["filters"] = filters
    if definition.prerequisites:
        common["parentConditions"] = [
            {"id": _of_variation(one.experiment), "condition": {"value": {"$in": one.variations}}}
            for one in definition.prerequisites
        ]
    rules = []
    for variation, units in definitions.members(definition.key).items():
        if units and variation in plan.keys:
            of_members = {definition.unit: {"$inGroup": _members_group(definition.key, variation)}}
            place = plan.keys.index(variation)
            ranges = [(0.0, 1.0 if index == place else 0.0) for index in range(len(values))]
            rules.append(
                {
                    "id": f"earlier_phase:{variation}",
                    "condition": _all_of([*conditions, of_members]),
                    "ranges": ranges,
                    **common,
                }
            )
    rule = {"id": "assigned", "ranges": [tuple(one) for one in plan.ranges_at(at)], **common}
    if conditions:
        rule["condition"] = _all_of(conditions)
    return [*rules, rule]


def for_every_sdk(condition: Any) -> Any:
    """`$notRegex` as its JavaScript SDK knows it, which has `$not` and `$regex` alone.

    Beside a `$not` of the same field it has to stay as it is: that SDK then gives the default.
    """
    if isinstance(condition, list | tuple):
        return [for_every_sdk(one) for one in condition]
    if not isinstance(condition, Mapping):
        return condition
    found = {name: for_every_sdk(one) for name, one in condition.items()}
    for name, regex in (("$notRegex", "$regex"), ("$notRegexi", "$regexi")):
        if name in found and "$not" not in found:
            found["$not"] = {regex: found.pop(name)}
    return found


def _filters(definitions: DefinitionSet, plan: Plan) -> list[dict[str, Any]]:
    definition = plan.definition
    filters = []
    held = definitions.surroundings.holdouts.get(definition.holdout or "")
    if held is not None:
        filters.append(
            {
                "attribute": held.unit,
                "seed": holdout_seed(str(definition.holdout), held),
                "hashVersion": 2,
                "ranges": [(held.share / WHOLE, 1.0)],
            }
        )
    if namespace := definition.namespace:
        filters.append(
            {
                "attribute": definition.unit,
                "seed": f"__{namespace.name}",
                "hashVersion": 1,
                "ranges": [(namespace.start / WHOLE, namespace.end / WHOLE)],
            }
        )
    return filters


def _forced(plan: Plan) -> list[tuple[int, dict[str, Any]]]:
    """The place of each variation that the allow list names, and who gets it."""
    definition = plan.definition
    named = []
    for index, key in enumerate(plan.keys):
        if units := [unit for unit, variation in definition.forced.items() if variation == key]:
            named.append((index, {definition.unit: {"$in": with_numbers(units)}}))
    return named


def _boundaries(plans: Iterable[Plan], at: float) -> list[float]:
    moments = []
    for plan in plans:
        definition = plan.definition
        times = [definition.starts_at, definition.stops_at, *(step.at for step in definition.ramp)]
        moments += [moment.timestamp() for moment in times if moment is not None]
    return [moment for moment in moments if moment > at]


def _all_of(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    return conditions[0] if len(conditions) == 1 else {"$and": conditions}


def _of_variation(key: str) -> str:
    return f"{key}:variation"


def _members_group(key: str, variation: str) -> str:
    return f"members:{key}:{variation}"
