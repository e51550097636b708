"""POST /v1/apply: definitions as files hold them, all checked before any is changed."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from anabranch.definition_records import Document
from anabranch.plans import Status
from anabranch.reading import Wrong
from service.access import CHECKED_WITHIN, Access, Permission, needs
from service.applying import (
    MOST_DOCUMENTS,
    NAMED_KINDS,
    ORDER,
    Planned,
    Surrounding,
    There,
    plan,
    warnings_of,
)
from service.bodies import json_type, read_json_object
from service.definition_changes import DefinitionChanges, answered, content_of
from service.experiment_answers import FieldChangeAnswer, Warning_
from service.experiment_documentation import EXAMPLE, Comment
from service.experiment_routes import CHANGED
from service.experiment_store import ExperimentStore
from service.problems import Kind, Problem, problem_answers
from service.settings import ServiceSettings


class Applied(BaseModel):
    place: int = Field(description="In what was sent, from 0.")
    kind: str = Field(description=f"One of {', '.join(ORDER)}.")
    key: str = Field(description="Of the definition.")
    action: Literal["create", "change", "same"] = Field(description="What becomes of it.")
    version: int = Field(description="After it; with `dry_run` the one that is there.")
    changes: list[FieldChangeAnswer] = Field(description="Field by field.")


class ApplyAnswer(BaseModel):
    applied: list[Applied] = Field(description="In the order in which they are written.")
    warnings: list[Warning_] = Field(description="Of the experiments, as they are then.")
    dry_run: bool = Field(description="Whether nothing was written.")


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["documents"],
                    "additionalProperties": False,
                    "properties": {
                        "documents": {
                            "type": "array",
                            "maxItems": MOST_DOCUMENTS,
                            "items": {"type": "object"},
                            "description": "Whole definitions, each with its `kind`: experiment "
                            "(when absent), holdout, group, parameter_set or limits; a metric has "
                            "its own, such as mean.",
                        },
                        "versions": {
                            "type": "object",
                            "additionalProperties": {"type": "integer"},
                            "description": 'What was there at the dry run, such as {"experiment '
                            'npc_tone": 3}: anything else now is a 409.',
                        },
                    },
                },
                "example": {"documents": [EXAMPLE]},
            }
        },
    }
}


def apply_routes(
    access: Access,
    changes: DefinitionChanges,
    store: ExperimentStore,
    settings: ServiceSettings,
) -> APIRouter:
    router = access.router(tags=["experiments"])

    @router.post(
        "/v1/apply",
        response_model=ApplyAnswer,
        openapi_extra=_BODY,
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.EXPERIMENT, experiment=CHECKED_WITHIN)
    async def apply(
        request: Request,
        dry_run: Annotated[bool, Query(description="Only tell what would change.")] = False,
        comment: Comment = "",
    ) -> Response:
        """Brings definitions to what is sent, and leaves others as they are.

        All of them are checked together, so that a new experiment may name a holdout that is new,
        too. Only then are they written, one after the other: those that differ. It is not decided
        here whether an experiment runs.
        """
        documents, versions = _given(
            await read_json_object(request, max_depth=settings.max_json_depth)
        )
        around = _surrounding(changes, store)
        with answered():
            # In a thread: hundreds of them take longer than an assignment may wait.
            planned = await asyncio.to_thread(plan, documents, around)
        for one in planned:
            _check_access(request, access, one)
            _check_version(one, versions)
        warnings = warnings_of(planned, around, store.metric_names())
        applied: list[dict[str, Any]] = []
        for one in planned:
            version = one.based_on.version if one.based_on else 0
            if one.action != "same" and not dry_run:
                version = await _write(request, changes, store, one, comment, applied)
            applied.append(_shown(one, version))
        content = {
            "applied": applied,
            "warnings": [warning._asdict() for warning in warnings],
            "dry_run": dry_run,
        }
        return Response(orjson.dumps(content), media_type="application/json")

    return router


def _given(body: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    wrong = [
        Wrong(name[:80], "no member has this name; there are documents and versions")
        for name in sorted(body.keys() - {"documents", "versions"})[:10]
    ]
    documents, versions = body.get("documents"), body.get("versions", {})
    if not isinstance(documents, list):
        given = f"is {json_type(documents)}" if "documents" in body else "is missing"
        wrong.append(Wrong("documents", f"{given}; it must be an array of definitions"))
    elif len(documents) > MOST_DOCUMENTS:
        said = f"has {len(documents):,} entries, and may have {MOST_DOCUMENTS}"
        wrong.append(Wrong("documents", said))
    if not isinstance(versions, dict):
        wrong.append(Wrong("versions", f"is {json_type(versions)}; it must be an object"))
    if wrong:
        raise Problem(
            Kind.INVALID_REQUEST,
            "; ".join(map(str, wrong)),
            errors=[one._asdict() for one in wrong],
        )
    assert isinstance(documents, list)
    return documents, versions


def _surrounding(changes: DefinitionChanges, store: ExperimentStore) -> Surrounding:
    definitions, documents = changes.current(), changes.log.documents

    def find(key: str) -> There | None:
        document = documents.get(key)
        if document is None:
            return None
        return There(document.version, document.status, content_of(document))

    def standing(key: str) -> Any:
        document = documents.get(key)
        if document is None or document.status == Status.DELETED:
            return None
        return store.standing(document)

    return Surrounding(definitions, find, standing, store.now())


def _check_access(request: Request, access: Access, one: Planned) -> None:
    if one.kind == "experiment":
        access.may(request, Permission.EXPERIMENT, one.key)
        return
    needed = Permission.ADMINISTER
    if one.kind in NAMED_KINDS:
        needed = NAMED_KINDS[one.kind].permission
    # Of all experiments: a key that is limited to some is refused, whatever they are called.
    access.may(request, needed, one.document_key)


def _check_version(one: Planned, versions: dict[str, Any]) -> None:
    name = f"{one.kind} {one.key}"
    there = one.based_on.version if one.based_on else 0
    if versions.get(name, there) != there:
        raise Problem(
            Kind.CONFLICT,
            f"{name} has changed meanwhile: version {there} is there, and {versions[name]} was "
            "looked at; look again at what would change",
        )


async def _write(
    request: Request,
    changes: DefinitionChanges,
    store: ExperimentStore,
    one: Planned,
    comment: str,
    applied: list[dict[str, Any]],
) -> int:
    there = changes.document(one.document_key)
    try:
        if (there.version if there else 0) != (one.based_on.version if one.based_on else 0):
            raise changes.conflict(request, one.document_key, None, there)
        document = await _written(request, changes, store, one, there, comment)
    except Problem as problem:
        done = [f"{a['kind']} {a['key']}" for a in applied if a["action"] != "same"]
        said = f"{', '.join(done)} had been applied before that" if done else "nothing was applied"
        raise Problem(
            problem.kind,
            f"{one.kind} {one.key}: {problem.detail} ({said})",
            headers=problem.headers,
            errors=problem.errors,
            changes=problem.changes,
        ) from problem
    return document.version


async def _written(
    request: Request,
    changes: DefinitionChanges,
    store: ExperimentStore,
    one: Planned,
    there: Document | None,
    comment: str,
) -> Document:
    action = f"{one.kind}.{one.action}"
    if one.kind == "experiment" and one.action == "change" and there is not None:
        return await store.change(request, action, there, lambda _: one.change, comment)
    return await changes.make(
        request,
        action,
        one.document_key,
        there,
        one.change.status,
        one.change.definition,
        comment,
    )


def _shown(one: Planned, version: int) -> dict[str, Any]:
    return {
        "place": one.place,
        "kind": one.kind,
        "key": one.key,
        "action": one.action,
        "version": version,
        "changes": [change._asdict() for change in one.changes],
    }
