"""Many definitions at once, as files hold them: what would change, or all that is wrong. Pure.

A file says the whole of each definition: what it leaves out takes its default. Whether an
experiment runs is not in the file; new ones are drafts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, get_args

from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Definition
from anabranch.plans import Status
from anabranch.reading import DefinitionError, Wrong, read
from analysis.metric_catalogue import Kind
from service.experiment_checks import check_references
from service.experiment_prerequisites import wanted_by
from service.experiment_states import ChangeRefusedError
from service.experiment_warnings import Warnings
from service.experiments import Change, Standing, created, replaced
from service.installation_kinds import GROUPS, HOLDOUTS, PARAMETER_SETS
from service.json_changes import FieldChange, differences
from service.limit_routes import LIMITS_KEY, limits_of
from service.metric_kind import METRICS
from service.named_documents import NamedKind, read_named

MOST_DOCUMENTS = 500
NAMED_KINDS: Mapping[str, NamedKind] = {
    kind.kind: kind for kind in (HOLDOUTS, GROUPS, PARAMETER_SETS, METRICS)
}
ORDER = ("limits", *NAMED_KINDS, "experiment")
"""What is named comes before what names it."""
METRIC_KINDS = get_args(Kind)


class There(NamedTuple):
    """A document of the log, deleted ones as well."""

    version: int
    status: str
    content: Mapping[str, Any]


class Planned(NamedTuple):
    place: int
    """In what was given."""
    kind: str
    key: str
    document_key: str
    based_on: There | None
    change: Change
    changes: tuple[FieldChange, ...]

    @property
    def action(self) -> str:
        if self.based_on is None or self.based_on.status == Status.DELETED:
            return "create"
        return "change" if self.changes else "same"


class _Written(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


class Surrounding(NamedTuple):
    """What is there now."""

    definitions: DefinitionSet
    find: Callable[[str], There | None]
    """By the key in the log."""
    standing: Callable[[str], Standing | None]
    """Of an experiment that is not deleted."""
    at: datetime


def plan(given: Sequence[Any], around: Surrounding) -> list[Planned]:
    """In the order in which they can be written. Raises DefinitionError with all that is wrong,
    each place beginning with that of the document, from 0."""
    wrong: list[Wrong] = []
    planned: list[Planned] = []
    for place, document in enumerate(given):
        try:
            planned.append(_planned(place, document, around))
        except DefinitionError as error:
            wrong += _within(place, error.wrong)
        except ChangeRefusedError as error:
            wrong.append(Wrong(f"documents.{place}", str(error)))
    wrong += _twice(planned)
    # What is wrong alone would show again as what is missing to the others.
    wrong = wrong or _wrong_together(planned, around)
    if wrong:
        raise DefinitionError(tuple(wrong))
    return _in_order(planned)


def warnings_of(
    planned: Sequence[Planned], around: Surrounding, metrics: frozenset[str]
) -> list[Wrong]:
    """Of the experiments, as they would be."""
    after = _after(planned, around.definitions)
    names = metrics | {one.key for one in planned if one.kind == "metric"}
    warnings = Warnings(after, names, around.at.timestamp())
    return [
        wrong
        for one in planned
        if one.kind == "experiment"
        for wrong in _within(one.place, warnings.of(after.plans[one.key]))
    ]


def _planned(place: int, given: Any, around: Surrounding) -> Planned:
    if not isinstance(given, Mapping):
        raise DefinitionError((Wrong("", "is no object"),))
    kind, content = _kind_of(given)
    if kind == "experiment":
        return _planned_experiment(place, content, around)
    if kind == "limits":
        key, definition, document_key = "installation", limits_of(content), LIMITS_KEY
    else:
        named = NAMED_KINDS[kind]
        key, definition = read_named(named, content)
        document_key = f"{kind}:{key}"
        _check_named(named, key, definition, around)
    there = around.find(document_key)
    before = {} if there is None or there.status == Status.DELETED else there.content
    change = Change(Status.RUNNING, definition)
    changes = tuple(differences(before, definition))
    return Planned(place, kind, key, document_key, there, change, changes)


def _kind_of(given: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Of the document, and what else it says. A metric's kind is its own: mean, ratio, ..."""
    kind = given.get("kind", "experiment")
    if kind in METRIC_KINDS:
        return METRICS.kind, given
    if kind not in ORDER or kind == METRICS.kind:
        known = ", ".join(one for one in ORDER if one != METRICS.kind)
        said = f"is {str(kind)[:60]!r}; there are {known}, and of metrics {', '.join(METRIC_KINDS)}"
        raise DefinitionError((Wrong("kind", said),))
    return kind, {name: value for name, value in given.items() if name != "kind"}


def _planned_experiment(place: int, content: Mapping[str, Any], around: Surrounding) -> Planned:
    key = content.get("key")
    standing = around.standing(key) if isinstance(key, str) and ":" not in key else None
    if standing is None:
        definition, change = created(content)
        key = definition.key
        there, before = around.find(key), {}
    else:
        key = standing.key
        change = replaced(standing, content, around.at)
        there, before = around.find(key), dict(standing.raw)
    changes = tuple(differences(before, change.definition))
    return Planned(place, "experiment", key, key, there, change, changes)


def _check_named(
    kind: NamedKind, key: str, definition: Mapping[str, Any], around: Surrounding
) -> None:
    if key in kind.built_in:
        raise ChangeRefusedError(f"the {kind.noun} {key} is built in and cannot be changed")
    there = around.find(f"{kind.kind}:{key}")
    if there is not None and there.status != Status.DELETED:
        before, after = read(kind.model, there.content), read(kind.model, definition)
        kind.check_change(key, before, after, around.definitions)


def _twice(planned: Sequence[Planned]) -> list[Wrong]:
    first: dict[str, int] = {}
    wrong = []
    for one in planned:
        if one.document_key in first:
            said = f"is there twice; documents.{first[one.document_key]} is {one.key}, too"
            wrong.append(Wrong(f"documents.{one.place}.key", said))
        first.setdefault(one.document_key, one.place)
    return wrong


def _wrong_together(planned: Sequence[Planned], around: Surrounding) -> list[Wrong]:
    after = _after(planned, around.definitions)
    wrong: list[Wrong] = []
    for one in planned:
        try:
            if one.kind == "experiment":
                check_references(Definition.model_validate(one.change.definition), after)
            elif one.kind in NAMED_KINDS:
                named = NAMED_KINDS[one.kind]
                named.check(one.key, read(named.model, one.change.definition), after)
        except DefinitionError as error:
            wrong += _within(one.place, error.wrong)
    return wrong


def _after(planned: Sequence[Planned], definitions: DefinitionSet) -> DefinitionSet:
    written = [
        _Written(
            one.document_key,
            1 if one.based_on is None else one.based_on.version + 1,
            one.change.status.value,
            one.change.definition,
        )
        for one in planned
    ]
    return definitions.with_changes(written)


def _in_order(planned: Sequence[Planned]) -> list[Planned]:
    """Kinds one after the other; experiments and parameter sets behind what they build on."""
    by_key = {one.document_key: one for one in planned}
    ordered: dict[str, Planned] = {}

    def add(one: Planned) -> None:
        if one.document_key in ordered:
            return
        for below in _builds_on(one):
            if below in by_key and below != one.document_key:
                add(by_key[below])
        ordered[one.document_key] = one

    for one in sorted(planned, key=lambda one: (ORDER.index(one.kind), one.place)):
        add(one)
    return list(ordered.values())


def _builds_on(one: Planned) -> Sequence[str]:
    """Without circles: those were refused."""
    if one.kind == "experiment":
        return wanted_by(Definition.model_validate(one.change.definition))
    fallback = one.change.definition.get("fallback") if one.kind == "parameter_set" else None
    return () if fallback is None else (f"parameter_set:{fallback}",)


def _within(place: int, wrong: Sequence[Wrong]) -> list[Wrong]:
    return [
        Wrong(f"documents.{place}{f'.{one.place}' if one.place else ''}", one.problem)
        for one in wrong
    ]
