"""GET|PATCH /v1/limits: what no experiment's parameters can leave."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from anabranch.definition_records import Document
from anabranch.definitions import InstallationLimits, as_json
from anabranch.parameters import DEFAULT_LIMITS, Limit
from anabranch.plans import Status
from anabranch.reading import DefinitionError, Wrong, read
from service.access import CHECKED_WITHIN, Access, Permission, needs
from service.definition_changes import DefinitionChanges, answered, content_of
from service.experiment_answers import moment
from service.experiment_documentation import Comment, patch_of
from service.experiment_routes import CHANGED, READ, body
from service.json_changes import merged
from service.problems import problem_answers
from service.settings import ServiceSettings

LIMITS_KEY = "limits:installation"


class LimitsAnswer(BaseModel):
    limits: dict[str, Limit] = Field(description="Those in force, by the parameter's name.")
    own: dict[str, Limit] = Field(description="Of those, the ones that were set here.")
    defaults: dict[str, Limit] = Field(description="Where none is set.")
    version: int = Field(description="Counts the changes; 0 before the first. The ETag, too.")
    changed_by: str = Field(description="Who set them last; empty before the first change.")
    changed_at: datetime | None = Field(description="When; null before the first change.")
    comment: str = Field(description="Why, in the words of who changed them.")


def limit_routes(
    access: Access, changes: DefinitionChanges, settings: ServiceSettings
) -> APIRouter:
    router = access.router(tags=["limits"])

    @router.get("/v1/limits", response_model=LimitsAnswer, responses=problem_answers(*READ))
    @needs(Permission.VIEW, experiment=CHECKED_WITHIN)
    async def show() -> Response:
        """The limits of parameters: of every experiment, which can only narrow them."""
        return _answer(changes)

    @router.patch(
        "/v1/limits",
        response_model=LimitsAnswer,
        openapi_extra=patch_of(
            InstallationLimits,
            {"limits": {"max_acts": {"type": "integer", "minimum": 0, "maximum": 12}}},
        ),
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.ADMINISTER)
    async def change(request: Request, comment: Comment = "") -> Response:
        """Sets limits, by a JSON merge patch; null takes one back to its default. In force at
        once, for what runs as well: values outside are clamped, and that is reported."""
        patch = await body(request, settings)
        document = changes.document(LIMITS_KEY)
        if document is not None:
            changes.check_version(request, document)
        with answered():
            wanted = limits_of({"limits": merged(own_limits(document), _limits_in(patch))})
        if wanted["limits"] != own_limits(document):
            await changes.make(
                *(request, "limits.change", LIMITS_KEY, document, Status.RUNNING, wanted, comment)
            )
        return _answer(changes)

    return router


def limits_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """As the log has them. Raises DefinitionError."""
    return as_json(read(InstallationLimits, given))


def own_limits(document: Document | None) -> dict[str, Any]:
    if document is None or document.status == Status.DELETED:
        return {}
    limits: dict[str, Any] = content_of(document)["limits"]
    return limits


def _limits_in(patch: Mapping[str, Any]) -> Any:
    if unknown := sorted(patch.keys() - {"limits"}):
        problem = "no field has this name; there is limits"
        raise DefinitionError((Wrong(unknown[0][:80], problem),))
    limits = patch.get("limits", {})
    if not isinstance(limits, dict):
        raise DefinitionError((Wrong("limits", "must be an object of limits by their names"),))
    return limits


def _answer(changes: DefinitionChanges) -> Response:
    current = changes.current()
    document = changes.document(LIMITS_KEY)
    version = 0 if document is None else document.version
    content = {
        "limits": _as_json(current.surroundings.limits),
        "own": own_limits(document),
        "defaults": _as_json(DEFAULT_LIMITS),
        "version": version,
        "changed_by": "" if document is None else document.changed_by,
        "changed_at": None if document is None else moment(document.changed_at_ms),
        "comment": "" if document is None else document.comment,
    }
    return Response(
        orjson.dumps(content), headers={"ETag": f'"{version}"'}, media_type="application/json"
    )


def _as_json(limits: Mapping[str, Limit]) -> dict[str, Any]:
    return {name: limit.model_dump(mode="json") for name, limit in limits.items()}
