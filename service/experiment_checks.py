"""What an experiment refers to: what is not there is refused. Pure.

The definitions given hold the experiment as it is to be.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from anabranch.conditions import compile_condition
from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Definition
from anabranch.errors import ConditionError
from anabranch.plans import Plan
from anabranch.reading import DefinitionError, Wrong
from service.experiment_prerequisites import endless, wanted_by


class KnownNames(NamedTuple):
    """Names of one kind, for sentences."""

    noun: str
    names: Collection[str]

    def problem(self, name: str) -> str | None:
        if name in self.names:
            return None
        near = difflib.get_close_matches(name, self.names, n=1)
        if near:
            hint = f"did you mean {near[0]}?"
        elif self.names:
            hint = f"there are {', '.join(sorted(self.names)[:20])}"
        else:
            hint = "there are none yet"
        return f"{name} is no {self.noun}; {hint}"


def check_references(definition: Definition, definitions: DefinitionSet) -> None:
    """Raises DefinitionError: an experiment that names what is not there cannot be decided."""
    wrong = [
        *_unknown_names(definition, definitions),
        *_wrong_prerequisites(definition, definitions.plans),
        *_left_behind(definition, definitions.plans),
    ]
    if wrong:
        raise DefinitionError(tuple(wrong))


def _unknown_names(definition: Definition, definitions: DefinitionSet) -> Iterator[Wrong]:
    around = definitions.surroundings
    if definition.holdout is not None and (
        problem := KnownNames("holdout", around.holdouts).problem(definition.holdout)
    ):
        yield Wrong("holdout", problem)
    sets = KnownNames("parameter set", around.parameter_sets)
    for index, variation in enumerate(definition.variations):
        name = variation.parameter_set
        if name is not None and (problem := sets.problem(name)):
            yield Wrong(f"variations.{index}.parameter_set", problem)
    if definition.targeting:
        try:
            compile_condition(definition.targeting, around.groups.keys())
        except ConditionError as error:
            yield Wrong("targeting", str(error))


def _wrong_prerequisites(definition: Definition, plans: Mapping[str, Plan]) -> Iterator[Wrong]:
    if not definition.prerequisites:
        return
    known = KnownNames("experiment", plans.keys() - {definition.key})
    fine = True
    for index, wanted in enumerate(definition.prerequisites):
        place = f"prerequisites.{index}"
        if problem := known.problem(wanted.experiment):
            yield Wrong(f"{place}.experiment", problem)
            fine = False
            continue
        variations = KnownNames(f"variation of {wanted.experiment}", plans[wanted.experiment].keys)
        for variation in wanted.variations:
            if problem := variations.problem(variation):
                yield Wrong(f"{place}.variations", problem)
    if fine:
        wanted_of = {key: wanted_by(plan.definition) for key, plan in plans.items()}
        wanted_of[definition.key] = wanted_by(definition)
        if problem := endless(definition.key, wanted_of):
            yield Wrong("prerequisites", problem)


def _left_behind(definition: Definition, plans: Mapping[str, Plan]) -> Iterator[Wrong]:
    """Variations that others want and that are gone."""
    keys = {variation.key for variation in definition.variations}
    for other in plans.values():
        for wanted in other.definition.prerequisites:
            if wanted.experiment == definition.key:
                for variation in wanted.variations:
                    if variation not in keys:
                        yield Wrong(
                            "variations",
                            f"{variation} is missing, and {other.definition.key} has it as a "
                            "prerequisite; change that one first",
                        )
