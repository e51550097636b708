"""Holdouts, groups and parameter sets: what they may name, and what names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Definition, Group, Holdout, ParameterSet
from anabranch.plans import Status
from anabranch.reading import DefinitionError, Wrong
from service.access import Permission
from service.experiment_checks import KnownNames
from service.experiment_states import ChangeRefusedError
from service.named_documents import NamedKind


def groups_in(condition: Any) -> Iterator[str]:
    """The saved groups that a condition names."""
    if isinstance(condition, list):
        for one in condition:
            yield from groups_in(one)
    elif isinstance(condition, dict):
        for name, operand in condition.items():
            if name in ("$inGroup", "$notInGroup") and isinstance(operand, str):
                yield operand
            else:
                yield from groups_in(operand)


def _users(
    definitions: DefinitionSet, names: Callable[[Definition], bool], *statuses: Status
) -> list[str]:
    return [
        key
        for key, plan in definitions.plans.items()
        if plan.status is not Status.ARCHIVED
        and (not statuses or plan.status in statuses)
        and names(plan.definition)
    ]


def _refuse(users: list[str], what: str, instead: str) -> None:
    if users:
        more = f" and {len(users) - 5} more" if len(users) > 5 else ""
        raise ChangeRefusedError(f"{what} {', '.join(users[:5])}{more}; {instead}")


def _check_nothing(_: str, __: Any, ___: DefinitionSet) -> None:
    """Holdouts and groups name nothing."""


def _check_holdout(key: str, before: Any, after: Any, definitions: DefinitionSet) -> None:
    def names(definition: Definition) -> bool:
        return definition.holdout == key

    if after is None:
        users = _users(definitions, names)
        _refuse(users, f"the holdout {key} is named by", "take it out of them first")
    elif (before.unit, before.seed) != (after.unit, after.seed):
        users = _users(definitions, names, Status.RUNNING, Status.SCHEDULED)
        _refuse(
            users,
            f"unit and seed of the holdout {key} cannot change, since other units would be held "
            "out of",
            "make another holdout, for experiments to come",
        )


def _check_group(key: str, _: Any, after: Any, definitions: DefinitionSet) -> None:
    if after is None:
        users = _users(definitions, lambda one: key in set(groups_in(one.targeting)))
        _refuse(users, f"the group {key} is in the targeting of", "change that first")


def _check_set(key: str, wanted: ParameterSet, definitions: DefinitionSet) -> None:
    """Its fallbacks have to be there, and to end somewhere."""
    sets = {**definitions.surroundings.parameter_sets, key: wanted}
    way, name = [key], wanted.fallback
    while name is not None:
        problem = KnownNames("parameter set", sets).problem(name)
        if name in way:
            problem = f"goes round in a circle: {' falls back to '.join([*way, name])}"
        if problem is not None:
            raise DefinitionError((Wrong("fallback", problem),))
        way.append(name)
        name = sets[name].fallback


def _check_set_change(key: str, _: Any, after: Any, definitions: DefinitionSet) -> None:
    if after is not None:
        return
    sets = definitions.surroundings.parameter_sets.items()
    falling = [name for name, one in sets if one.fallback == key and name != key]
    _refuse(falling, f"the parameter set {key} is the fallback of", "give them another first")
    users = _users(definitions, lambda one: any(v.parameter_set == key for v in one.variations))
    _refuse(users, f"the parameter set {key} is named by", "take it out of them first")


HOLDOUTS = NamedKind(
    kind="holdout",
    plural="holdouts",
    noun="holdout",
    model=Holdout,
    permission=Permission.ADMINISTER,
    check=_check_nothing,
    check_change=_check_holdout,
    example={"key": "global", "name": "Never in an experiment", "unit": "player", "share": 500},
)
GROUPS = NamedKind(
    kind="group",
    plural="groups",
    noun="group",
    model=Group,
    permission=Permission.EXPERIMENT,
    check=_check_nothing,
    check_change=_check_group,
    example={"key": "testers", "name": "Our own people", "values": ["p1", "p2"]},
)
PARAMETER_SETS = NamedKind(
    kind="parameter_set",
    plural="parameter_sets",
    noun="parameter set",
    model=ParameterSet,
    permission=Permission.EXPERIMENT,
    check=_check_set,
    check_change=_check_set_change,
    example={
        "key": "full_stack",
        "name": "All data sources",
        "params": {"max_acts": 8},
        "needs": ["maps_api"],
        "fallback": "free_only",
    },
)
