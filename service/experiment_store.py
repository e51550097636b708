"""Experiments as requests read and change them: the decisions of service/experiments.py, done."""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from fastapi import Request

from anabranch.definition_records import Document
from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Definition
from anabranch.plans import Plan, Status
from analysis.metric_catalogue import BUILT_IN
from service.callers import actor_of
from service.definition_changes import DefinitionChanges, answered, content_of
from service.experiment_answers import moment, shown
from service.experiment_checks import check_references
from service.experiment_prerequisites import users_of
from service.experiment_states import ChangeRefusedError
from service.experiment_warnings import Warnings
from service.experiments import Change, Standing
from service.problems import Kind, Problem, shortened

Decision = Callable[[Standing], Change]


class PhaseOpening(Protocol):
    async def open(
        self,
        current: Document,
        changed: Definition,
        by: str,
        comment: str = "",
        *,
        status: str | None = None,
    ) -> Document:
        """Write the definition with its new weights so that nobody who was exposed moves."""


class _Written(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


class ExperimentStore:
    def __init__(
        self,
        changes: DefinitionChanges,
        phases: PhaseOpening,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._changes = changes
        self._phases = phases
        self._clock = clock

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def find(self, key: str, *, deleted: bool = False) -> Document:
        """Raises a Problem (404)."""
        definitions = self._changes.current()
        document = self._changes.document(key) if ":" not in key else None
        if document is None:
            near = difflib.get_close_matches(key, definitions.plans, n=1)
            hint = f"did you mean {near[0]}?" if near else "GET /v1/experiments lists them"
            raise Problem(Kind.NOT_FOUND, f"no experiment has the key {shortened(key)}; {hint}")
        if document.status == Status.DELETED and not deleted:
            raise Problem(
                Kind.NOT_FOUND,
                f"{key} was deleted by {document.changed_by} at {moment(document.changed_at_ms)}; "
                f"a rollback to version {document.version - 1} brings it back",
            )
        return document

    def standing(self, document: Document) -> Standing:
        plan = self._changes.current().plans.get(document.key)
        status = _status(document, plan, self._clock())
        history = self._changes.log.history(document.key)
        before = any(one.status in (Status.RUNNING, Status.STOPPED) for one in history)
        return Standing(
            document.key,
            document.version,
            status,
            content_of(document),
            None if plan is None else plan.definition,
            before or status in (Status.RUNNING, Status.STOPPED),
            {
                "changed_by": document.changed_by,
                "changed_at": moment(document.changed_at_ms),
                "comment": document.comment,
            },
        )

    def answer(self, document: Document) -> dict[str, Any]:
        return self.answers([document])[0]

    def answers(self, documents: list[Document]) -> list[dict[str, Any]]:
        definitions, at = self._changes.current(), self._clock()
        warnings = Warnings(definitions, self.metric_names(), at)
        found = []
        for document in documents:
            plan = definitions.plans.get(document.key)
            if plan is not None and plan.version != document.version:
                plan = None  # one that is newer than what was asked for
            status = _status(document, plan, at)
            found.append(shown(document, status, plan, warnings.of(plan) if plan else []))
        return found

    def documents(self) -> list[tuple[Document, Status]]:
        """Of all experiments, deleted ones as well, with their statuses by the clock."""
        definitions, at = self._changes.current(), self._clock()
        return [
            (one, _status(one, definitions.plans.get(one.key), at))
            for one in self._changes.log.documents.of_kind("experiment")
        ]

    def history(self, key: str) -> tuple[Document, ...]:
        """Oldest first; of a deleted one as well."""
        self.find(key, deleted=True)
        return self._changes.log.history(key)

    def metric_names(self) -> frozenset[str]:
        documents = self._changes.log.documents.of_kind("metric")
        return frozenset(BUILT_IN) | {one.name for one in documents if one.status != Status.DELETED}

    async def create(
        self, request: Request, action: str, definition: Definition, change: Change, comment: str
    ) -> Document:
        key = definition.key
        there = self._changes.document(key)
        if there is not None and there.status != Status.DELETED:
            raise Problem(
                Kind.CONFLICT,
                f"there is an experiment {key} already, {there.status} in version {there.version}; "
                "change it by PATCH, or take another key",
            )
        self._check(definition, there, change)
        return await self._changes.make(
            request, action, key, there, change.status, change.definition, comment
        )

    async def change(
        self,
        request: Request,
        action: str,
        document: Document,
        decide: Decision,
        comment: str,
        *,
        checked: bool = True,
    ) -> Document:
        """`checked`: what the experiment refers to has to be there."""
        self._changes.check_version(request, document)
        now = self.standing(document)
        with answered():
            change = decide(now)
        if change.status == now.status and change.definition == now.raw:
            return document
        if checked:
            self._check(Definition.model_validate(change.definition), document, change)
        if change.phase is None:
            return await self._changes.make(
                request, action, now.key, document, change.status, change.definition, comment
            )
        phase = change.phase

        async def write() -> Document:
            return await self._phases.open(
                document, phase, actor_of(request), comment, status=change.status
            )

        return await self._changes.recorded(
            request, action, now.key, document, change.definition, comment, write
        )

    def conflict(self, request: Request, based_on: Document | None, current: Document) -> Problem:
        return self._changes.conflict(request, current.key, based_on, current)

    def check_unused(self, key: str) -> None:
        if others := users_of(key, self._changes.current()):
            raise ChangeRefusedError(
                f"{key} is a prerequisite of {', '.join(others[:5])}; change that first"
            )

    def _check(self, definition: Definition, there: Document | None, change: Change) -> None:
        version = 1 if there is None else there.version + 1
        written = _Written(definition.key, version, change.status.value, change.definition)
        with answered():
            check_references(definition, self._in_place(written))

    def _in_place(self, written: _Written) -> DefinitionSet:
        return self._changes.current().with_changes([written])


def _status(document: Document, plan: Plan | None, at: float) -> Status:
    if plan is not None and plan.version == document.version:
        return plan.status_at(at)
    try:
        return Status(document.status)
    except ValueError:  # of a later release
        return Status.STOPPED
