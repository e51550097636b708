"""All experiments at one moment, with what they are decided with.

Made of the documents of the definition log, and made anew for each change: whoever holds one goes
on with it, undisturbed. Only the plans that a change concerns are made again.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from anabranch.assignment import Assignment, Reason, assign
from anabranch.definitions import (
    Definition,
    Group,
    Holdout,
    InstallationLimits,
    ParameterSet,
)
from anabranch.parameters import DEFAULT_LIMITS, Limit
from anabranch.plans import Plan, Status, Surroundings
from anabranch.pseudonyms import personal_identifier

Units = str | Mapping[str, str]
"""One unit for every experiment, or one for each kind: {"session": ..., "player": ...}.

An attribute with the name of a kind stands in for one that is not there; then ANY_KIND does.
"""
ANY_KIND: Final = "*"

_Model = TypeVar("_Model", bound=BaseModel)

_NOTHING: Final[Mapping[str, Any]] = {}
_DEEPEST = 10
_LONGEST_UNIT = 256


class Written(Protocol):
    """A document of the log, as far as deciding needs it."""

    @property
    def key(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def definition(self) -> Mapping[str, Any]: ...


class Unusable(NamedTuple):
    """A document that cannot be read, of a later release perhaps."""

    version: int
    problem: str


class DefinitionSet:
    def __init__(self, documents: Mapping[str, Written] | None = None) -> None:
        self._documents = dict(documents or {})
        self._plans: dict[str, Plan] = {}
        self.unusable: dict[str, Unusable] = {}
        """By the key of the document: what is wrong with it."""
        self._surroundings = self._read_surroundings()
        self._members = self._read_members()
        for key in self._documents:
            if ":" not in key:
                self._make(key)

    @classmethod
    def of(cls, documents: Iterable[Written]) -> DefinitionSet:
        return cls({document.key: document for document in documents})

    def with_changes(self, changed: Iterable[Written]) -> DefinitionSet:
        changes = {document.key: document for document in changed}
        if any(":" in key and not key.startswith("members:") for key in changes):
            return DefinitionSet({**self._documents, **changes})
        made = DefinitionSet()
        made._documents = {**self._documents, **changes}
        made._surroundings = self._surroundings
        made._plans = dict(self._plans)
        made.unusable = dict(self.unusable)
        made._members = self._members
        if concerned := [key.split(":")[1] for key in changes if key.startswith("members:")]:
            made._members = made._read_members()
        for key in dict.fromkeys([*concerned, *(key for key in changes if ":" not in key)]):
            made._make(key)
        return made

    @property
    def plans(self) -> Mapping[str, Plan]:
        """Of all experiments that are not deleted and can be read, running or not."""
        return self._plans

    @property
    def surroundings(self) -> Surroundings:
        return self._surroundings

    def members(self, experiment: str) -> Mapping[str, Collection[str]]:
        """By variation: the units that met an earlier phase."""
        return self._members.get(experiment, {})

    def documents(self) -> Iterator[Written]:
        yield from self._documents.values()

    def assign(
        self,
        experiment: str,
        units: Units,
        attributes: Mapping[str, Any] = _NOTHING,
        *,
        at: float | None = None,
        away: Collection[str] = (),
        explain: bool = False,
    ) -> Assignment:
        """Never raises; `at` is in seconds since 1970, the present when absent.

        `away`: the sources that parameter sets cannot count on now.
        """
        moment = time.time() if at is None else at
        try:
            return self._assign(experiment, units, attributes, moment, away, explain, _DEEPEST)
        except Exception as error:
            return self._failed(experiment, error)

    def running_at(self, at: float) -> list[str]:
        """Keys of the experiments that run then, by this clock."""
        return [key for key, plan in self._plans.items() if plan.runs_at(at)]

    def default(self, experiment: str, units: Units, reason: Reason) -> Assignment:
        """The control, for a reason that lies with whoever asks."""
        plan = self._plans.get(experiment)
        if plan is None:
            return self._without_plan(experiment, units)
        unit = _unit(plan.definition.unit, units, _NOTHING)
        params, adjustments = plan.params(0)
        return Assignment(
            *(experiment, plan.version, plan.keys[0], params, reason, unit),
            adjustments=adjustments,
        )

    def assign_all(
        self,
        units: Units,
        attributes: Mapping[str, Any] = _NOTHING,
        *,
        at: float | None = None,
        away: Collection[str] = (),
    ) -> list[Assignment]:
        """Of every experiment that runs."""
        moment = time.time() if at is None else at
        found = []
        for key in self.running_at(moment):
            try:
                one = self._assign(key, units, attributes, moment, away, False, _DEEPEST)
            except Exception as error:
                one = self._failed(key, error)
            found.append(one)
        return found

    def _assign(
        self,
        key: str,
        units: Units,
        attributes: Mapping[str, Any],
        at: float,
        away: Collection[str],
        explain: bool,
        depth: int,
    ) -> Assignment:
        plan = self._plans.get(key)
        if plan is None:
            return self._without_plan(key, units)
        unit = _unit(plan.unit, units, attributes)
        if plan.targets_unit and unit and plan.unit not in attributes:
            attributes = {**attributes, plan.unit: unit}
        if units.__class__ is str and (plan.prerequisites or plan.holdout_unit):
            # It is a unit of this experiment's kind; of others the attributes know better.
            units = {plan.unit: unit, ANY_KIND: unit}
        parent = _without_parents
        if plan.prerequisites:

            def parent(other: str) -> Assignment:
                if not depth:
                    raise RecursionError(f"prerequisites of {key} go round in circles")
                return self._assign(other, units, attributes, at, (), False, depth - 1)

        held_unit = ""
        if plan.holdout_unit is not None:
            held_unit = _unit(plan.holdout_unit, units, attributes)
        return assign(plan, unit, attributes, at, parent, held_unit, away, explain)

    def _without_plan(self, key: str, units: Units) -> Assignment:
        unit = units if isinstance(units, str) else ""
        unusable = self.unusable.get(key)
        if unusable is None:
            return Assignment(key, 0, "", _NOTHING, Reason.UNKNOWN_EXPERIMENT, unit)
        reason = Reason.INVALID_DEFINITION
        return Assignment(key, unusable.version, "", _NOTHING, reason, unit, unusable.problem)

    def _failed(self, key: object, error: Exception) -> Assignment:
        """What was asked for is nothing that could be decided: not to be called an attribute."""
        plan = self._plans.get(key) if isinstance(key, str) else None
        detail = f"{type(error).__name__}: {error}"[:200]
        if plan is None:
            return Assignment(str(key)[:128], 0, "", _NOTHING, Reason.FAILED, "", detail)
        params, adjustments = plan.params(0)
        of_plan = (plan.definition.key, plan.version, plan.keys[0], params)
        return Assignment(*of_plan, Reason.FAILED, "", detail, adjustments)

    def _make(self, key: str) -> None:
        self.unusable.pop(key, None)
        document = self._documents.get(key)
        if document is None or document.status == Status.DELETED:
            self._plans.pop(key, None)
            return
        try:
            # A plan that is made again keeps its place: the order is that of the first ones.
            self._plans[key] = Plan(
                Definition.model_validate(document.definition),
                document.version,
                Status(document.status),
                self._surroundings,
                self.members(key),
            )
        except ValueError as error:  # of pydantic, of a condition, of a status
            self._plans.pop(key, None)
            self.unusable[key] = Unusable(document.version, _first_line(error))

    def _read_surroundings(self) -> Surroundings:
        limits: dict[str, Limit] = dict(DEFAULT_LIMITS)
        for of_installation in self._of_kind("limits", InstallationLimits).values():
            limits.update(of_installation.limits)
        groups = self._of_kind("group", Group)
        return Surroundings(
            limits,
            self._of_kind("parameter_set", ParameterSet),
            self._of_kind("holdout", Holdout),
            {name: frozenset(group.values) for name, group in groups.items()},
        )

    def _of_kind(self, kind: str, model: type[_Model]) -> dict[str, _Model]:
        found = {}
        for key, document in self._documents.items():
            of_kind, _, name = key.partition(":")
            if of_kind != kind or not name or document.status == Status.DELETED:
                continue
            try:
                found[name] = model.model_validate(document.definition)
            except ValidationError as error:
                self.unusable[key] = Unusable(document.version, _first_line(error))
        return found

    def _read_members(self) -> dict[str, dict[str, list[str]]]:
        found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for key, document in self._documents.items():
            if key.startswith("members:") and document.status != Status.DELETED:
                of = document.definition
                found[of["experiment"]][of["variation"]].extend(of["units"])
        return found


@lru_cache(maxsize=65_536)
def _is_pseudonymous(text: str) -> bool:
    """Whether it can go into an event: no raw e-mail address or number, nothing unprintable."""
    return text.isprintable() and personal_identifier(text) is None


def _without_parents(other: str) -> Assignment:
    raise AssertionError("asked for by prerequisites alone")


def _unit(kind: str, units: Units, attributes: Mapping[str, Any]) -> str:
    """As GrowthBook's SDKs write it: numbers as text. Empty where there is none to decide by."""
    if isinstance(units, str):
        found: Any = units
    else:
        found = units.get(kind)
        if found is None:
            found = attributes.get(kind)
            if isinstance(found, str) and not _is_pseudonymous(found):
                return ""
        if found is None:
            found = units.get(ANY_KIND, "")
    if found.__class__ is str and len(found) <= _LONGEST_UNIT:
        unit: str = found
        return unit
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if not isinstance(found, str) or len(found) > _LONGEST_UNIT:
        return ""
    return found


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}"[:200]
    return str(error)[:200]
