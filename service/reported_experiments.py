"""What reports need to know of experiments and metrics: definitions as they are now."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from anabranch.definition_records import Document
from anabranch.definitions import Definition
from anabranch.plans import Status
from anabranch.reading import DefinitionError, read
from analysis.metric_catalogue import BUILT_IN, Metric
from analysis.unit_statistics import BY_LOCALE
from service.definition_changes import DefinitionChanges, content_of
from service.experiment_store import ExperimentStore
from service.problems import Kind, Problem, shortened

TURN_METRICS = tuple(
    key for key, metric in BUILT_IN.items() if metric.source and metric.source.turn
)


class Reported(NamedTuple):
    definition: Definition
    version: int
    status: Status
    """By the clock."""


class CataloguedMetric(NamedTuple):
    metric: Metric
    version: int
    """0: built in."""


class ReportedExperiments:
    def __init__(self, changes: DefinitionChanges, store: ExperimentStore) -> None:
        self._changes = changes
        self._store = store

    def find(self, key: str) -> Reported:
        """Raises a Problem: 404, or 409 for a definition that this release cannot read."""
        document = self._store.find(key)
        standing = self._store.standing(document)
        if standing.definition is None:
            raise Problem(
                Kind.CONFLICT,
                f"this release cannot read version {document.version} of {key}; roll it back, or "
                "ask a newer one",
            )
        return Reported(standing.definition, document.version, standing.status)

    def metric(self, key: str) -> CataloguedMetric:
        """Raises a Problem (422)."""
        if key in BUILT_IN:
            return CataloguedMetric(BUILT_IN[key], 0)
        document = self._changes.document(f"metric:{key}")
        if document is None or document.status == Status.DELETED:
            names = self._store.metric_names()
            raise Problem(
                Kind.INVALID_REQUEST,
                f"no metric has the key {shortened(key)}; {_nearest(key, names, '/v1/metrics')}",
            )
        try:
            return CataloguedMetric(read(Metric, content_of(document)), document.version)
        except DefinitionError as error:
            raise Problem(
                Kind.INVALID_REQUEST, f"this release cannot read the metric {key}: {error}"
            ) from error

    def catalogue(
        self, definition: Definition, asked: Iterable[str]
    ) -> Mapping[str, CataloguedMetric]:
        """Of the definition's metrics those that there are, and all that are asked for.

        Raises a Problem (422) for one that is asked for and not there.
        """
        found = {key: self.metric(key) for key in dict.fromkeys(asked)}
        names = self._store.metric_names()
        for key in metric_keys(definition):
            if key in names and key not in found:
                found[key] = self.metric(key)
        return found

    def history(self, experiment: Reported) -> tuple[Document, ...]:
        """Oldest first, up to this version."""
        known = self._store.history(experiment.definition.key)
        return tuple(one for one in known if one.version <= experiment.version)


def metric_keys(definition: Definition) -> tuple[str, ...]:
    """Of the definition: primary ones first, each once. Those of turns where it names none."""
    named = definition.metrics
    guardrails = (guardrail.metric for guardrail in named.guardrails)
    return tuple(dict.fromkeys([*named.primary, *named.secondary, *guardrails])) or TURN_METRICS


def check_segments(definition: Definition, by: str | None) -> None:
    """Raises a Problem (422)."""
    known = (BY_LOCALE, *definition.dimensions)
    if by is not None and by not in known:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"by is {shortened(by)}; {definition.key} has segments by {', '.join(known)}. Declare "
            "an attribute among its dimensions to have others",
        )


def _nearest(key: str, names: Iterable[str], path: str) -> str:
    near = difflib.get_close_matches(key, sorted(names), n=1)
    return f"did you mean {near[0]}?" if near else f"GET {path} lists them"
