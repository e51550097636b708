"""POST /v1/assign: which variations does a unit get?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from anabranch.assignment import Assignment, Reason
from anabranch.definition_set import DefinitionSet
from anabranch.exposing import exposure_of
from service.access import CHECKED_WITHIN, Access, Permission, caller_of, needs
from service.assignment_documentation import ASSIGN_BODY
from service.assignment_requests import Asked, read_request
from service.bodies import read_json_object
from service.exposure_queue import ExposureQueue
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, problem_answers
from service.settings import ServiceSettings
from streams.live_definitions import LiveDefinitions

SOURCE = "anabranch-service"


class StepAnswer(BaseModel):
    question: str
    passed: bool
    found: str


class AdjustmentAnswer(BaseModel):
    parameter: str
    reason: str = Field(description="clamped, unknown, mistyped, not_allowed or no_set.")
    sentence: str


class AssignmentAnswer(BaseModel):
    experiment: str
    version: int = Field(description="Of the definition that decided.")
    variation: str = Field(description="The first one, the default, where the unit is not in it.")
    params: dict[str, Any] = Field(description="The variation's, within their limits.")
    exposure_id: str = Field(description="The same for the same experiment, version and unit.")
    rationale: str = Field(description="Why, in a sentence.")
    in_experiment: bool = Field(description="Whether the unit counts; then its exposure is logged.")
    reason: str = Field(description="Why, as one word: " + ", ".join(Reason) + ".")
    unit: str = Field(description="What was decided by.")
    adjustments: list[AdjustmentAnswer] = Field(
        description="Parameters that are not passed on as the definition has them."
    )
    trace: list[StepAnswer] | None = Field(None, description="Each question; with `explain`.")


class AssignmentsAnswer(BaseModel):
    assignments: list[AssignmentAnswer]


class Assigner:
    """Decides from memory, and logs exposures behind the request's back."""

    def __init__(
        self, definitions: LiveDefinitions, exposures: ExposureQueue, metrics: ServiceMetrics
    ) -> None:
        self._definitions = definitions
        self._exposures = exposures
        self._metrics = metrics

    def current(self) -> DefinitionSet:
        if not self._definitions.are_known:
            raise Problem(
                Kind.DEFINITIONS_UNAVAILABLE,
                self._definitions.reader.problem or "the definition log has not been read yet",
                headers={"Retry-After": "2"},
            )
        return self._definitions.current

    def keys(self, asked: Asked) -> Sequence[str]:
        """Of the experiments that a request is about."""
        if asked.experiments is None:
            return self.current().running_at(time.time())
        return asked.experiments

    def answer(
        self, asked: Asked, keys: Sequence[str], started: float, door: str
    ) -> list[Assignment]:
        """`started` is when the request came, by time.perf_counter()."""
        definitions = self.current()
        deadline = started + asked.deadline_ms / 1000
        found = []
        for key in keys:
            if time.perf_counter() > deadline:
                found.append(definitions.default(key, asked.units, Reason.DEADLINE))
            else:
                found.append(
                    definitions.assign(
                        *(key, asked.units, asked.attributes),
                        away=asked.away,
                        explain=asked.explain,
                    )
                )
        for assignment in found:
            self._metrics.assignments.labels(door, assignment.reason.value).inc()
        if asked.log:
            self.log(definitions, found, asked.attributes)
        return found

    def log(
        self,
        definitions: DefinitionSet,
        assignments: list[Assignment],
        attributes: Mapping[str, Any],
    ) -> None:
        self._exposures.add(
            exposure_of(
                *(assignment, attributes),
                definitions.plans[assignment.experiment].definition.dimensions,
                SOURCE,
            )
            for assignment in assignments
            if assignment.in_experiment
        )


def assignment_routes(access: Access, assigner: Assigner, settings: ServiceSettings) -> APIRouter:
    router = access.router(tags=["assignment"])

    @router.post(
        "/v1/assign",
        response_model=AssignmentAnswer | AssignmentsAnswer,
        openapi_extra={"requestBody": ASSIGN_BODY},
        responses=problem_answers(400, 401, 403, 404, 413, 415, 422, 429, 503),
    )
    @needs(Permission.EVALUATE, experiment=CHECKED_WITHIN)
    async def assign(request: Request) -> Response:
        """Which variation a unit gets: of one experiment, of some, or of all that run.

        With `experiment` the answer is one assignment, else `{"assignments": [...]}`. The exposure
        is logged in the background (`"log": false` turns that off). A decision that is not there
        within `deadline_ms` is the default variation, with the reason `deadline`.

        Kafka being away changes nothing here: definitions are in memory, and exposures wait.
        """
        started = request.scope.get("started", time.perf_counter())
        body = await read_json_object(request, max_depth=settings.max_json_depth)
        asked = read_request(body)
        keys = assigner.keys(asked)
        if asked.experiments is None:
            keys = [key for key in keys if caller_of(request).covers(key)]
        for key in keys:
            access.may(request, Permission.EVALUATE, key)
        found = assigner.answer(asked, keys, started, "http")
        if not asked.is_single:
            content: Any = {"assignments": [as_answer(one, asked.explain) for one in found]}
        elif found[0].reason is Reason.UNKNOWN_EXPERIMENT:
            raise Problem(
                Kind.NOT_FOUND,
                f"no experiment has the key {found[0].experiment}; GET /v1/experiments lists them",
            )
        else:
            content = as_answer(found[0], asked.explain)
        return Response(orjson.dumps(content), media_type="application/json")

    return router


def as_answer(assignment: Assignment, explain: bool = False) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "experiment": assignment.experiment,
        "version": assignment.version,
        "variation": assignment.variation,
        "params": dict(assignment.params),
        "exposure_id": assignment.exposure_id,
        "rationale": assignment.rationale,
        "in_experiment": assignment.in_experiment,
        "reason": assignment.reason.value,
        "unit": assignment.unit,
        "adjustments": [one._asdict() for one in assignment.adjustments],
    }
    if explain:
        answer["trace"] = [step._asdict() for step in assignment.trace]
    return answer
