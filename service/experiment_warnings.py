"""What to warn of in an experiment that can be used all the same. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Definition
from anabranch.plans import Plan, Status
from anabranch.reading import Wrong
from service.experiment_checks import KnownNames

GREATEST_USUAL_THRESHOLD = 2.0


class Warnings:
    """Of many experiments at one moment: what they are compared with is gathered once."""

    def __init__(self, definitions: DefinitionSet, metrics: Collection[str], at: float) -> None:
        self._metrics = KnownNames("metric", metrics)
        self._by_namespace: dict[str, list[Definition]] = {}
        self._by_seed: dict[str, list[str]] = {}
        for plan in definitions.plans.values():
            definition = plan.definition
            if plan.status is not Status.ARCHIVED:
                self._by_seed.setdefault(definition.hash_seed, []).append(definition.key)
            lives = plan.status_at(at) in (Status.RUNNING, Status.SCHEDULED)
            if definition.namespace is not None and lives:
                self._by_namespace.setdefault(definition.namespace.name, []).append(definition)

    def of(self, plan: Plan) -> list[Wrong]:
        definition = plan.definition
        return [
            *self._of_parameters(plan),
            *self._of_metrics(definition),
            *self._of_namespace(definition),
            *self._of_seed(definition),
        ]

    def _of_parameters(self, plan: Plan) -> Iterable[Wrong]:
        found: dict[Wrong, None] = {}
        for index, variation in enumerate(plan.definition.variations):
            for adjusted in plan.params(index).adjustments:
                if adjusted.parameter in variation.params:
                    place = f"variations.{index}.params.{adjusted.parameter}"
                elif adjusted.parameter in plan.definition.params:
                    place = f"params.{adjusted.parameter}"
                else:
                    place = f"variations.{index}.parameter_set"
                found[Wrong(place, adjusted.sentence)] = None
        return found

    def _of_metrics(self, definition: Definition) -> Iterator[Wrong]:
        metrics = definition.metrics
        if not metrics.primary:
            yield Wrong("metrics.primary", "is empty: no metric decides the experiment")
        named = [
            *((f"metrics.primary.{i}", name) for i, name in enumerate(metrics.primary)),
            *((f"metrics.secondary.{i}", name) for i, name in enumerate(metrics.secondary)),
            *(
                (f"metrics.guardrails.{i}.metric", guardrail.metric)
                for i, guardrail in enumerate(metrics.guardrails)
            ),
        ]
        rule = definition.kill_switch
        if rule is not None:
            named.append(("kill_switch.metric", rule.metric))
            if rule.threshold > GREATEST_USUAL_THRESHOLD:
                yield Wrong(
                    "kill_switch.threshold",
                    f"allows {rule.threshold * 100:,.0f} % more than the control has: it is a "
                    "share, 0.2 for 20 %",
                )
        for place, name in named:
            if problem := self._metrics.problem(name):
                yield Wrong(place, problem)

    def _of_namespace(self, definition: Definition) -> Iterator[Wrong]:
        mine = definition.namespace
        if mine is None:
            return
        for other in self._by_namespace.get(mine.name, ()):
            theirs = other.namespace
            if other.key == definition.key or theirs is None:
                continue
            start, end = max(mine.start, theirs.start), min(mine.end, theirs.end)
            if start < end:
                yield Wrong(
                    "namespace",
                    f"{start} to {end} of {mine.name} is {other.key}'s as well: units there are in "
                    "both",
                )

    def _of_seed(self, definition: Definition) -> Iterator[Wrong]:
        others = [
            key for key in self._by_seed.get(definition.hash_seed, ()) if key != definition.key
        ]
        if others:
            yield Wrong(
                "seed",
                f"is that of {', '.join(others[:5])}, too: units are shared out alike, so that one "
                "experiment's effect shows in the other",
            )
