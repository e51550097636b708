"""Reading and changing experiments: GET|POST /v1/experiments, GET|PATCH|DELETE .../{key}."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query, Request, Response

from anabranch.definition_records import Document
from anabranch.plans import Status
from service.access import CHECKED_WITHIN, Access, Permission, needs
from service.answers import is_unchanged
from service.bodies import read_json_object
from service.callers import caller_of
from service.definition_changes import answered
from service.experiment_answers import ExperimentAnswer, ExperimentPage
from service.experiment_documentation import (
    CHANGING,
    EXPERIMENT_PATCH,
    NEW_EXPERIMENT,
    Comment,
    Cursor,
    Limit,
)
from service.experiment_store import ExperimentStore
from service.experiments import amended, created, deleted
from service.listing import link_to_next, page
from service.problems import Kind, Problem, problem_answers
from service.settings import ServiceSettings

MAX_BODY_BYTES = 1_000_000
"""Several times what a definition may have, in which spaces do not count."""

READ = (401, 403, 404, 422, 429, 503)
CHANGED = (400, 401, 403, 404, 409, 412, 413, 415, 422, 429, 503)


class Sort(StrEnum):
    KEY = "key"
    NAME = "name"
    CHANGED_AT = "changed_at"
    STATUS = "status"
    KEY_DOWN = "-key"
    NAME_DOWN = "-name"
    CHANGED_AT_DOWN = "-changed_at"
    STATUS_DOWN = "-status"


_PLACES: Mapping[str, Callable[[Document, Status], int | str]] = {
    "key": lambda document, _: document.key,
    "name": lambda document, _: str(document.definition.get("name") or document.key).casefold(),
    "changed_at": lambda document, _: document.changed_at_ms,
    "status": lambda _, status: status.value,
}


def experiment_routes(
    access: Access, store: ExperimentStore, settings: ServiceSettings
) -> APIRouter:
    router = access.router(tags=["experiments"])
    _add_list(router, store)
    _add_create(router, access, store, settings)

    @router.get(
        "/v1/experiments/{key}", response_model=ExperimentAnswer, responses=problem_answers(*READ)
    )
    @needs(Permission.VIEW)
    async def show(key: str) -> Response:
        """One experiment. Its ETag is its version, for `If-Match` of a change."""
        return answer(store, store.find(key))

    @router.patch(
        "/v1/experiments/{key}",
        response_model=ExperimentAnswer,
        openapi_extra=EXPERIMENT_PATCH,
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.EXPERIMENT)
    async def change(request: Request, key: str, comment: Comment = "") -> Response:
        """Changes some fields, by a JSON merge patch (RFC 7396): lists are replaced as a whole, and
        null takes a field back to its default.

        While it runs, what would give units another variation cannot change (409). New weights
        can: they open a phase, in which units that were exposed keep their variation.
        """
        patch = await body(request, settings)
        document = store.find(key)
        check_named_version(request, store, document, patch)
        document = await store.change(
            request,
            "experiment.change",
            document,
            lambda now: amended(now, patch, store.now()),
            comment,
        )
        return answer(store, document)

    @router.delete(
        "/v1/experiments/{key}",
        status_code=204,
        response_class=Response,
        openapi_extra=CHANGING,
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.EXPERIMENT)
    async def delete(request: Request, key: str, comment: Comment = "") -> Response:
        """Takes a draft or an archived experiment out of every list. Its history stays, a rollback
        brings it back, and its versions are not given out again."""
        document = store.find(key)
        with answered():
            store.check_unused(key)
        await store.change(request, "experiment.delete", document, deleted, comment, checked=False)
        return Response(status_code=204)

    return router


def _add_list(router: APIRouter, store: ExperimentStore) -> None:
    @router.get("/v1/experiments", response_model=ExperimentPage, responses=problem_answers(*READ))
    @needs(Permission.VIEW, experiment=CHECKED_WITHIN)
    async def list_(
        request: Request,
        status: Annotated[
            list[Status] | None,
            Query(description="Only these; may be repeated. All but `deleted` when absent."),
        ] = None,
        tag: Annotated[str | None, Query(max_length=128)] = None,
        owner: Annotated[str | None, Query(max_length=256)] = None,
        text: Annotated[
            str | None,
            Query(max_length=256, description="In key, name, hypothesis or description."),
        ] = None,
        sort: Annotated[Sort, Query(description="With - for descending.")] = Sort.KEY,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> Response:
        """Experiments, page by page; the header `Link` leads to the next one."""
        caller = caller_of(request)
        rows = [
            (document, now)
            for document, now in store.documents()
            if (now in status if status else now is not Status.DELETED)
            and caller.covers(document.key)
            and _matches(document, tag, owner, text)
        ]
        by = _PLACES[sort.removeprefix("-")]
        found = page(
            rows,
            lambda row: (by(*row), row[0].key),
            limit=limit,
            sort=sort.value,
            descending=sort.startswith("-"),
            cursor=cursor,
        )
        content = {
            "experiments": store.answers([document for document, _ in found.rows]),
            "total": found.total,
            "next_cursor": found.next_cursor,
        }
        return listed(request, content, found.next_cursor)


def _add_create(
    router: APIRouter, access: Access, store: ExperimentStore, settings: ServiceSettings
) -> None:
    @router.post(
        "/v1/experiments",
        status_code=201,
        response_model=ExperimentAnswer,
        openapi_extra=NEW_EXPERIMENT,
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.EXPERIMENT, experiment=CHECKED_WITHIN)
    async def create(request: Request, comment: Comment = "") -> Response:
        """A new experiment, as a draft: nothing is assigned by it before it is started."""
        given = await body(request, settings)
        with answered():
            definition, change = created(given)
        access.may(request, Permission.EXPERIMENT, definition.key)
        document = await store.create(request, "experiment.create", definition, change, comment)
        return answer(store, document, created_at=f"/v1/experiments/{quote(document.key)}")


async def body(request: Request, settings: ServiceSettings) -> dict[str, Any]:
    """Raises a Problem. Several times what the largest definition needs is read, no more."""
    length = len(await request.body())
    if length > MAX_BODY_BYTES:
        raise Problem(
            Kind.BODY_TOO_LARGE,
            f"the body has {length:,} bytes, and a definition may have 200,000 characters",
        )
    return await read_json_object(request, max_depth=settings.max_json_depth)


async def body_or_nothing(
    request: Request, settings: ServiceSettings, *known: str
) -> dict[str, Any]:
    """Of a verb, whose body may be left out."""
    if not await request.body():
        return {}
    given = await body(request, settings)
    if unknown := sorted(given.keys() - set(known)):
        there = f"there are {', '.join(known)}" if known else "this takes no members"
        problem = f"no member has this name; {there}"
        raise Problem(
            Kind.INVALID_REQUEST,
            f"{unknown[0][:80]}: {problem}",
            errors=[{"place": unknown[0], "problem": problem}],
        )
    return given


def check_named_version(
    request: Request, store: ExperimentStore, document: Document, patch: dict[str, Any]
) -> None:
    """A body that names a version is about that version, and no other."""
    version = patch.pop("version", document.version)
    if version != document.version:
        known = {earlier.version: earlier for earlier in store.history(document.key)}
        there = known.get(version) if isinstance(version, int) else None
        raise store.conflict(request, there, document)


def answer(
    store: ExperimentStore, document: Document, *, created_at: str | None = None
) -> Response:
    headers = {"ETag": f'"{document.version}"'}
    if created_at is not None:
        headers["Location"] = created_at
    content = orjson.dumps(store.answer(document))
    return Response(content, 201 if created_at else 200, headers, "application/json")


def listed(request: Request, content: dict[str, Any], next_cursor: str | None) -> Response:
    """A page, or 304 where the caller has it already."""
    text = orjson.dumps(content)
    etag = f'W/"{hashlib.blake2b(text, digest_size=12).hexdigest()}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        **link_to_next(request, next_cursor),
    }
    if is_unchanged(request, etag.removeprefix("W/")):
        return Response(status_code=304, headers=headers)
    return Response(text, headers=headers, media_type="application/json")


def _matches(document: Document, tag: str | None, owner: str | None, text: str | None) -> bool:
    content = document.definition
    if tag is not None and tag not in content.get("tags", ()):
        return False
    if owner is not None and content.get("owner") != owner:
        return False
    if text is None:
        return True
    fields = ("key", "name", "hypothesis", "description")
    return any(text.casefold() in str(content.get(name, "")).casefold() for name in fields)
