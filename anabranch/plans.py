"""Definitions made ready to decide: whatever does not depend on the unit is done once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import starmap, zip_longest
from typing import Any

from anabranch.assignment import Assignment, Reason, Step
from anabranch.bucketing import (
    WHOLE,
    Bucketing,
    Range,
    overlap,
    share_range,
    variation_ranges,
)
from anabranch.conditions import compile_condition
from anabranch.definitions import Definition, Holdout, ParameterSet
from anabranch.parameters import Adjusted, Adjustment, Limit, Resolved, resolve

_MOST_KEPT = 1_000


class Status(StrEnum):
    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    STOPPED = "stopped"
    ARCHIVED = "archived"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an experiment is decided with, beside its own definition."""

    limits: Mapping[str, Limit] = field(default_factory=dict)
    parameter_sets: Mapping[str, ParameterSet] = field(default_factory=dict)
    holdouts: Mapping[str, Holdout] = field(default_factory=dict)
    groups: Mapping[str, frozenset[str | int | float]] = field(default_factory=dict)


class Plan:
    """One experiment, ready."""

    def __init__(
        self,
        definition: Definition,
        version: int,
        status: Status,
        surroundings: Surroundings,
        members: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """`members`: by variation, the units that met an earlier phase. Raises ConditionError."""
        self.definition = definition
        self.version = version
        self.status = status
        self._surroundings = surroundings
        self.keys = tuple(variation.key for variation in definition.variations)
        # Copied, since a model's attribute takes four times as long to read as one of a plan.
        self.key, self.unit = definition.key, definition.unit
        self.prerequisites, self._forced = definition.prerequisites, definition.forced
        self.targets_unit = _names(definition.targeting, definition.unit)
        """Whether targeting asks for the unit itself."""
        self._bucket = Bucketing(definition.hash_seed, definition.hash_version)
        self._locale = definition.locales and compile_condition(
            locale_condition(definition.locales)
        )
        self._targeting = definition.targeting and compile_condition(definition.targeting)
        self._members = {
            unit: self.keys.index(variation)
            for variation, units in (members or {}).items()
            if variation in self.keys
            for unit in units
        }
        namespace, holdout = definition.namespace, definition.holdout
        self._namespace = namespace and (
            # GrowthBook's own hash of namespaces, so that both share units out alike.
            Bucketing(f"__{namespace.name}", 1),
            Range(namespace.start / WHOLE, namespace.end / WHOLE),
        )
        held = surroundings.holdouts.get(holdout) if holdout else None
        self._holdout = held and (
            Bucketing(holdout_seed(str(holdout), held)),
            share_range(held.share),
        )
        self.holdout_unit = held.unit if held else None
        """The kind of unit that the holdout goes by; None where there is none."""
        self._by_set: dict[tuple[int, frozenset[str]], Resolved] = {}
        # A word for all that `_refused` asks, so that most experiments do without it.
        self._is_for_some = bool(
            self._locale
            or self._targeting
            or definition.prerequisites
            or self._holdout
            or self._namespace
        )
        sets = surroundings.parameter_sets.values()
        self._needs = frozenset(need for one in sets for need in one.needs)
        self._usual = [self._resolve(index, frozenset()) for index in range(len(self.keys))]
        self._starts, self._stops = _period(definition, status)
        phases = definition.phases
        self._is_opening = len(phases) > 1 and phases[-1].opening
        moments = [step.at for step in definition.ramp]
        self._steps = [moment.timestamp() for moment in moments]
        long_ago = datetime.fromtimestamp(0, UTC)
        self._ranges = [self._ranges_from(moment) for moment in (long_ago, *moments)]

    def status_at(self, at: float) -> Status:
        """`scheduled` and `running` as the times make them, by the clock of whoever asks."""
        if self._starts <= at < self._stops:
            return Status.RUNNING
        if self.status not in (Status.RUNNING, Status.SCHEDULED):
            return self.status
        return Status.STOPPED if at >= self._stops else Status.SCHEDULED

    def runs_at(self, at: float) -> bool:
        return self._starts <= at < self._stops

    def ranges_at(self, at: float) -> tuple[Range, ...]:
        """Of the variations, as far as the coverage of that time goes."""
        if not self._steps:
            return self._ranges[0]
        return self._ranges[bisect_right(self._steps, at)]

    def _ranges_from(self, at: datetime) -> tuple[Range, ...]:
        definition = self.definition
        coverage = definition.coverage_at(at)
        ranges = variation_ranges(definition.weights, coverage)
        if self._is_opening:
            before = variation_ranges(definition.phases[-2].weights, coverage)
            nothing = Range(0.0, 0.0)  # of variations that one of the two phases lacks
            ranges = tuple(starmap(overlap, zip_longest(before, ranges, fillvalue=nothing)))
        return ranges[: len(self.keys)]

    def params(self, index: int, away: Collection[str] = ()) -> Resolved:
        """Of a variation, while the named sources are away."""
        away = self._needs.intersection(away) if away else ()
        if not away:
            return self._usual[index]
        place = (index, frozenset(away))
        found = self._by_set.get(place)
        if found is None:
            found = self._resolve(index, place[1])
            if len(self._by_set) < _MOST_KEPT:
                self._by_set[place] = found
        return found

    def _resolve(self, index: int, away: frozenset[str]) -> Resolved:
        definition, sets = self.definition, self._surroundings.parameter_sets
        variation = definition.variations[index]
        layers: list[Mapping[str, Any]] = [definition.params]
        missing: list[Adjustment] = []
        name, seen = variation.parameter_set, set[str]()
        while name is not None:
            chosen = sets.get(name)
            if chosen is None or name in seen:
                sentence = f"the parameter set {name} " + (
                    "falls back to itself" if name in seen else "is not defined"
                )
                missing.append(Adjustment(name, Adjusted.NO_SET, sentence))
                break
            if not away.intersection(chosen.needs) or chosen.fallback is None:
                if away.intersection(chosen.needs):
                    sentence = f"the parameter set {name} needs what is away and has no fallback"
                    missing.append(Adjustment(name, Adjusted.NO_SET, sentence))
                else:
                    layers.append(chosen.params)
                break
            seen.add(name)
            name = chosen.fallback
        layers.append(variation.params)
        resolved = resolve(layers, [self._surroundings.limits, definition.limits])
        return Resolved(resolved.params, (*missing, *resolved.adjustments))

    def decide(
        self,
        unit: str,
        attributes: Mapping[str, Any],
        at: float,
        parent: Callable[[str], Assignment],
        held_unit: str,
        trace: list[Step] | None = None,
    ) -> tuple[int, Reason, str | float]:
        """The place of the variation, why, and what the sentence has to name.

        `held_unit` is the unit of the kind that the holdout goes by.
        """
        runs = self._starts <= at < self._stops
        if trace is not None:
            trace.append(Step("is it running?", runs, self.status_at(at).value))
        if not runs:
            return 0, Reason.NOT_RUNNING, self.status_at(at).value
        if trace is not None:
            trace.append(Step("is there a unit?", bool(unit), f"{self.unit} is {unit!r}"))
        if not unit:
            return 0, Reason.NO_UNIT, self.unit
        if self._forced:
            forced = self._forced.get(unit)
            if trace is not None:
                named = f"gets {forced}" if forced else "is not on the allow list"
                trace.append(Step("is it forced?", forced is not None, named))
            if forced is not None:
                return self.keys.index(forced), Reason.FORCED, ""
        if self._is_for_some:
            refused = self._refused(unit, attributes, parent, held_unit, trace)
            if refused is not None:
                return 0, *refused
        if self._members:
            member = self._members.get(unit)
            if trace is not None:
                met = "none" if member is None else self.keys[member]
                trace.append(Step("did it meet an earlier phase?", member is not None, met))
            if member is not None:
                return member, Reason.EARLIER_PHASE, ""
        bucket = self._bucket(unit)
        ranges = self._ranges[bisect_right(self._steps, at)] if self._steps else self._ranges[0]
        if trace is not None:
            trace += self._compared(bucket, ranges)
        for index, (start, end) in enumerate(ranges):
            if start <= bucket < end:
                return index, Reason.ASSIGNED, bucket
        if self._is_opening and self._will_have(bucket, at):
            return 0, Reason.PHASE_OPENING, bucket
        return 0, Reason.NOT_COVERED, bucket

    def _will_have(self, bucket: float, at: float) -> bool:
        """Whether the unit was in the experiment before, or is once the phase is open."""
        definition = self.definition
        coverage = definition.coverage_at(datetime.fromtimestamp(at, UTC))
        both = (definition.phases[-2].weights, definition.weights)
        return any(bucket in one for weights in both for one in variation_ranges(weights, coverage))

    def _refused(
        self,
        unit: str,
        attributes: Mapping[str, Any],
        parent: Callable[[str], Assignment],
        held_unit: str,
        trace: list[Step] | None,
    ) -> tuple[Reason, str] | None:
        if self._locale:
            locale = attributes.get("locale")
            on = self._locale(attributes, {})
            if trace is not None:
                trace.append(Step("is its language on?", on, f"locale is {locale!r}"))
            if not on:
                return Reason.LOCALE_OFF, str(locale)[:64]
        if self._targeting:
            matches = self._targeting(attributes, self._surroundings.groups)
            if trace is not None:
                groups = self._surroundings.groups
                why = [] if matches else self._targeting.explain(attributes, groups)
                trace.append(Step("is it targeted?", matches, "; ".join(why) or "it matches"))
            if not matches:
                return Reason.NOT_TARGETED, ""
        for prerequisite in self.prerequisites:
            got = parent(prerequisite.experiment)
            met = got.in_experiment and got.variation in prerequisite.variations
            if trace is not None:
                trace.append(Step(f"is it in {prerequisite.experiment}?", met, got.rationale))
            if not met:
                return Reason.PREREQUISITE, prerequisite.experiment
        if self._holdout:
            bucket, share = self._holdout
            name = str(self.definition.holdout)
            # Without one nobody can tell: out, as GrowthBook's SDKs decide it.
            held = not held_unit or bucket(held_unit) in share
            if trace is not None:
                trace.append(Step("is it free of the holdout?", not held, name))
            if held:
                return Reason.HELD_OUT, name
        if self._namespace:
            bucket, part = self._namespace
            inside = bucket(unit) in part
            name = self.definition.namespace.name if self.definition.namespace else ""
            if trace is not None:
                trace.append(Step("is it in the namespace's part?", inside, name))
            if not inside:
                return Reason.NAMESPACE, name
        return None

    def _compared(self, bucket: float, ranges: Sequence[Range]) -> Iterator[Step]:
        for key, (start, end) in zip(self.keys, ranges, strict=True):
            inside = start <= bucket < end
            found = f"bucket {bucket:.4f} is not from {start:.4f} to {end:.4f}"
            if inside:
                found = f"bucket {bucket:.4f} is from {start:.4f} on, below {end:.4f}"
            yield Step(f"is it in {key}?", inside, found)
            if inside:
                return


def _period(definition: Definition, status: Status) -> tuple[float, float]:
    """From when until when it runs, in seconds since 1970."""
    never, always = float("inf"), float("-inf")
    starts, stops = definition.starts_at, definition.stops_at
    if status not in (Status.RUNNING, Status.SCHEDULED):
        return never, never
    if starts is not None:
        start = starts.timestamp()
    else:
        start = never if status is Status.SCHEDULED else always
    return start, never if stops is None else stops.timestamp()


def _names(condition: Any, attribute: str) -> bool:
    """Whether a condition, or one inside of it, asks for an attribute or for what is inside it."""
    if isinstance(condition, Mapping):
        return any(
            key.partition(".")[0] == attribute or _names(inner, attribute)
            for key, inner in condition.items()
        )
    return isinstance(condition, list) and any(_names(one, attribute) for one in condition)


def holdout_seed(key: str, holdout: Holdout) -> str:
    return f"holdout:{key}" if holdout.seed is None else holdout.seed


def locale_condition(locales: Mapping[str, bool]) -> dict[str, Any]:
    """As targeting, so that every SDK can follow it: the locale itself counts (`de-AT`), else its
    language (`de`), else `*`, which is on unless it is said to be off."""
    languages = [name for name in locales if name != "*" and "-" not in name]
    exact = [name for name in locales if "-" in name]
    not_exact: dict[str, Any] = {"locale": {"$nin": exact}}

    def of_languages(names: list[str]) -> dict[str, Any]:
        return {"locale": {"$regex": f"^({'|'.join(names)})(-|$)"}}

    on: list[dict[str, Any]] = [{"locale": {"$in": [name for name in exact if locales[name]]}}]
    if wanted := [name for name in languages if locales[name]]:
        on.append({"$and": [not_exact, of_languages(wanted)]})
    if locales.get("*", True):
        rest: list[dict[str, Any]] = (
            [not_exact, {"$not": of_languages(languages)}] if languages else [not_exact]
        )
        on.append({"$and": rest})
    return {"$or": on}
