"""The definitions of this process, ready to decide with, kept equal to the definition log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

from anabranch.definition_records import Document, Documents
from anabranch.definition_set import DefinitionSet
from anabranch.plans import Plan
from streams.definition_reader import DefinitionReader
from streams.metrics import DefinitionMetrics

log = structlog.get_logger("streams.live_definitions")


class _Written(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


class LiveDefinitions:
    """`current` is made anew for each change; take it once for everything that belongs together."""

    def __init__(self, reader: DefinitionReader, metrics: DefinitionMetrics) -> None:
        self.reader = reader
        self.current = DefinitionSet()
        self._metrics = metrics
        reader.subscribe(self._changed)

    @property
    def are_known(self) -> bool:
        """Whether the log was read, or what an earlier process kept of it."""
        return self.reader.problem is None or self.reader.documents.revision > 0

    @property
    def revision(self) -> int:
        return self.reader.documents.revision

    def _changed(self, documents: Documents, keys: frozenset[str]) -> None:
        before = self.current.plans
        if keys <= documents.keys():
            changed = [_written(documents[key]) for key in keys]
            self.current = self.current.with_changes(changed)
        else:  # the log was made anew, and something is gone
            self.current = DefinitionSet.of(map(_written, documents.values()))
        for key in keys:
            if (unusable := self.current.unusable.get(key)) is not None:
                self._metrics.unusable.inc()
                log.error("a definition cannot be used", key=key, problem=unusable.problem)
        for key, plan in self.current.plans.items():
            if plan is not before.get(key):
                self._tell(key, plan, before.get(key))

    def _tell(self, key: str, plan: Plan, before: Plan | None) -> None:
        """Once for each version, and when the limits around it change: what of it is not used as
        it was written."""
        known = before is not None and before.version == plan.version
        for index, variation in enumerate(plan.keys):
            adjustments = plan.params(index).adjustments
            if known and before is not None and before.params(index).adjustments == adjustments:
                continue
            for adjusted in adjustments:
                self._metrics.invalid_params.labels(key, adjusted.reason.value).inc()
                log.warning(
                    "a parameter is not passed on as it was written",
                    experiment=key,
                    version=plan.version,
                    variation=variation,
                    parameter=adjusted.parameter,
                    problem=adjusted.sentence,
                )


def _written(document: Document) -> _Written:
    # From the text: what the document holds parsed is read-only, which models do not take.
    parsed = json.loads(document.text)
    return _Written(document.key, document.version, document.status, parsed)
