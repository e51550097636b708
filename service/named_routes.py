"""GET|POST of a kind of named documents, GET|PATCH|DELETE of one."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, create_model

from anabranch.definitions import Key
from service.access import CHECKED_WITHIN, Access, Permission, needs
from service.experiment_documentation import (
    CHANGING,
    Comment,
    Cursor,
    Limit,
    body_of,
    patch_of,
)
from service.experiment_routes import CHANGED, READ, body, listed
from service.listing import page
from service.named_documents import NamedAnswer, NamedDocuments, NamedKind, shown
from service.problems import problem_answers
from service.settings import ServiceSettings


def named_routes(access: Access, documents: NamedDocuments, settings: ServiceSettings) -> APIRouter:
    kind = documents.kind
    router = access.router(tags=[kind.plural.replace("_", " ")])
    answer, answers = _answers(kind)
    _add_reading(router, documents, answer, answers)
    _add_changing(router, documents, answer, settings)
    return router


def _add_reading(
    router: APIRouter,
    documents: NamedDocuments,
    answer: type[BaseModel],
    answers: type[BaseModel],
) -> None:
    kind = documents.kind

    # Those of all experiments: a key that is limited to some may read what they name.
    @router.get(
        kind.path,
        response_model=answers,
        responses=problem_answers(*READ),
        summary=f"List {kind.plural.replace('_', ' ')}",
        operation_id=f"list_{kind.plural}",
    )
    @needs(Permission.VIEW, experiment=CHECKED_WITHIN)
    async def list_(request: Request, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """All of them by their keys, page by page; the header `Link` leads to the next one."""
        found = page(documents.keys(), lambda key: (key, key), limit=limit, cursor=cursor)
        content = {
            kind.plural: [documents.answer(key) for key in found.rows],
            "total": found.total,
            "next_cursor": found.next_cursor,
        }
        return listed(request, content, found.next_cursor)

    @router.get(
        kind.path + "/{name}",
        response_model=answer,
        responses=problem_answers(*READ),
        summary=f"Show a {kind.noun}",
        operation_id=f"show_{kind.kind}",
    )
    @needs(Permission.VIEW, experiment=CHECKED_WITHIN)
    async def show(name: str) -> Response:
        """One of them. Its ETag is its version, for `If-Match` of a change."""
        return _answered(documents.answer(name))


def _add_changing(
    router: APIRouter,
    documents: NamedDocuments,
    answer: type[BaseModel],
    settings: ServiceSettings,
) -> None:
    kind = documents.kind
    named = Field(description="What experiments name it by; it never changes.")
    keyed = create_model("Keyed", __base__=kind.model, key=(Key, named))

    @router.post(
        kind.path,
        status_code=201,
        response_model=answer,
        openapi_extra=body_of(keyed, kind.example),
        responses=problem_answers(*CHANGED),
        summary=f"Make a {kind.noun}",
        operation_id=f"make_{kind.kind}",
    )
    @needs(kind.permission)
    async def create(request: Request, comment: Comment = "") -> Response:
        """A new one, in force at once."""
        made = await documents.create(request, await body(request, settings), comment)
        return _answered(shown(made), f"{kind.path}/{quote(made.name)}")

    @router.patch(
        kind.path + "/{name}",
        response_model=answer,
        openapi_extra=patch_of(kind.model, {"name": "Another name"}),
        responses=problem_answers(*CHANGED),
        summary=f"Change a {kind.noun}",
        operation_id=f"change_{kind.kind}",
    )
    @needs(kind.permission)
    async def change(request: Request, name: str, comment: Comment = "") -> Response:
        """Changes some fields, by a JSON merge patch (RFC 7396); in force at once."""
        patch = await body(request, settings)
        return _answered(shown(await documents.change(request, name, patch, comment)))

    @router.delete(
        kind.path + "/{name}",
        status_code=204,
        response_class=Response,
        openapi_extra=CHANGING,
        responses=problem_answers(*CHANGED),
        summary=f"Delete a {kind.noun}",
        operation_id=f"delete_{kind.kind}",
    )
    @needs(kind.permission)
    async def delete(request: Request, name: str, comment: Comment = "") -> Response:
        """Takes it away; refused while experiments name it."""
        await documents.delete(request, name, comment)
        return Response(status_code=204)


def _answers(kind: NamedKind) -> tuple[type[BaseModel], type[BaseModel]]:
    """Models of one and of a page, for the documentation."""
    name = "".join(part.capitalize() for part in kind.kind.split("_"))
    one = create_model(f"{name}Answer", __base__=(NamedAnswer, kind.model))
    pages: dict[str, Any] = {
        kind.plural: (list[one], Field(description="By their keys.")),
        "total": (int, Field(description="On all pages.")),
        "next_cursor": (str | None, Field(description="For the next page; null on the last.")),
    }
    return one, create_model(f"{name}Page", **pages)


def _answered(content: dict[str, Any], location: str | None = None) -> Response:
    headers = {"ETag": f'"{content["version"]}"'}
    if location is not None:
        headers["Location"] = location
    return Response(orjson.dumps(content), 201 if location else 200, headers, "application/json")
