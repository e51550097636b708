"""Starting, stopping and what else is done to an experiment; its history and the way back."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query, Request, Response

from anabranch.reading import Wrong
from service.access import Access, Permission, needs
from service.definition_changes import answered, content_of
from service.experiment_answers import ExperimentAnswer, HistoryAnswer, history_of
from service.experiment_documentation import (
    CHANGING,
    CLONE,
    ROLLBACK,
    SCHEDULE,
    Comment,
    Cursor,
    Limit,
)
from service.experiment_routes import CHANGED, READ, answer, body, body_or_nothing
from service.experiment_store import Decision, ExperimentStore
from service.experiments import (
    archived,
    cloned,
    rolled_back,
    scheduled,
    started,
    stopped,
    unarchived,
)
from service.listing import link_to_next, page
from service.problems import Kind, Problem, problem_answers
from service.settings import ServiceSettings

AsFlag = Annotated[
    bool,
    Query(description="Start it with a single variation: the same parameters for everybody."),
]


def experiment_verb_routes(
    access: Access, store: ExperimentStore, settings: ServiceSettings
) -> APIRouter:
    router = access.router(tags=["experiments"])
    documented: dict[str, Any] = {
        "response_model": ExperimentAnswer,
        "responses": problem_answers(*CHANGED),
    }
    plain = {**documented, "openapi_extra": CHANGING}
    _add_running(router, store, settings, documented, plain)
    _add_shelving(router, store, settings, plain)
    _add_copying(router, access, store, settings, documented)
    _add_history(router, store)
    return router


def _add_running(
    router: APIRouter,
    store: ExperimentStore,
    settings: ServiceSettings,
    documented: dict[str, Any],
    plain: dict[str, Any],
) -> None:
    @router.post("/v1/experiments/{key}/start", **plain)
    @needs(Permission.EXPERIMENT)
    async def start(
        request: Request, key: str, flag: AsFlag = False, comment: Comment = ""
    ) -> Response:
        """Starts a draft or a stopped experiment. Where `starts_at` lies ahead, a draft is
        scheduled for then; one that is scheduled already starts now."""
        await body_or_nothing(request, settings)
        return await _done(
            *(request, store, key, "start", comment),
            lambda now: started(now, store.now(), as_flag=flag),
        )

    @router.post("/v1/experiments/{key}/stop", **plain)
    @needs(Permission.EXPERIMENT)
    async def stop(request: Request, key: str, comment: Comment = "") -> Response:
        """Stops it at once: from now on every unit gets the default variation."""
        await body_or_nothing(request, settings)
        return await _done(request, store, key, "stop", comment, stopped, checked=False)

    @router.post("/v1/experiments/{key}/schedule", **{**documented, "openapi_extra": SCHEDULE})
    @needs(Permission.EXPERIMENT)
    async def schedule(
        request: Request, key: str, flag: AsFlag = False, comment: Comment = ""
    ) -> Response:
        """Has it start, and stop, at a time. Both are kept by the clock of whoever decides."""
        given = await body_or_nothing(request, settings, "starts_at", "stops_at")
        return await _done(
            *(request, store, key, "schedule", comment),
            lambda now: scheduled(now, given, store.now(), as_flag=flag),
        )


def _add_shelving(
    router: APIRouter, store: ExperimentStore, settings: ServiceSettings, plain: dict[str, Any]
) -> None:
    @router.post("/v1/experiments/{key}/archive", **plain)
    @needs(Permission.EXPERIMENT)
    async def archive(request: Request, key: str, comment: Comment = "") -> Response:
        """Puts away a draft or a stopped experiment: it is kept, and cannot be changed."""
        await body_or_nothing(request, settings)
        return await _done(request, store, key, "archive", comment, archived, checked=False)

    @router.post("/v1/experiments/{key}/unarchive", **plain)
    @needs(Permission.EXPERIMENT)
    async def unarchive(request: Request, key: str, comment: Comment = "") -> Response:
        """Takes it out again: as stopped where it has run, else as a draft."""
        await body_or_nothing(request, settings)
        return await _done(request, store, key, "unarchive", comment, unarchived, checked=False)


def _add_copying(
    router: APIRouter,
    access: Access,
    store: ExperimentStore,
    settings: ServiceSettings,
    documented: dict[str, Any],
) -> None:
    @router.post(
        "/v1/experiments/{key}/clone",
        status_code=201,
        **{**documented, "openapi_extra": CLONE},
    )
    @needs(Permission.EXPERIMENT)
    async def clone(request: Request, key: str, comment: Comment = "") -> Response:
        """A draft with the same content under another key: without times, with a seed of its own,
        so that units are shared out anew."""
        given = await body_or_nothing(request, settings, "key", "name")
        with answered():
            definition, change = cloned(
                store.standing(store.find(key)), given.get("key"), given.get("name")
            )
        access.may(request, Permission.EXPERIMENT, definition.key)
        said = comment or f"cloned from {key}"
        made = await store.create(request, "experiment.clone", definition, change, said)
        return answer(store, made, created_at=f"/v1/experiments/{quote(made.key)}")

    @router.post("/v1/experiments/{key}/rollback", **{**documented, "openapi_extra": ROLLBACK})
    @needs(Permission.EXPERIMENT)
    async def rollback(request: Request, key: str, comment: Comment = "") -> Response:
        """Makes a new version with the definition of an earlier one. Whether it runs stays as it
        is, and so does what a running experiment may change. A deleted one comes back as a draft.
        """
        given = await body(request, settings)
        version = _version(given)
        versions = {document.version: document for document in store.history(key)}
        document = store.find(key, deleted=True)
        if version not in versions or version == document.version:
            there = f"{min(versions)} to {document.version - 1}" if len(versions) > 1 else "none"
            raise Problem(
                Kind.NOT_FOUND if version not in versions else Kind.CONFLICT,
                f"{key} has no earlier version {version} to go back to; there is {there}",
            )
        earlier = content_of(versions[version])
        said = comment or f"back to version {version}"
        return await _done(
            *(request, store, key, "rollback", said),
            lambda now: rolled_back(now, earlier, store.now()),
            deleted=True,
        )


def _add_history(router: APIRouter, store: ExperimentStore) -> None:
    @router.get(
        "/v1/experiments/{key}/history",
        response_model=HistoryAnswer,
        responses=problem_answers(*READ),
    )
    @needs(Permission.VIEW)
    async def history(
        request: Request, key: str, limit: Limit = 50, cursor: Cursor = None
    ) -> Response:
        """Every version, the newest first: who made it, when, and what it changed, field by field.

        The log keeps each for 400 days, and the newest 1,000 of an experiment.
        """
        found = page(
            enumerate(store.history(key)),
            lambda row: (row[1].version, ""),
            limit=limit,
            sort="history",
            descending=True,
            cursor=cursor,
        )
        # One more than is shown, so that the oldest of the page has something to be compared with.
        places = [place for place, _ in found.rows]
        versions = store.history(key)
        start = max(0, min(places, default=0) - 1)
        rows = history_of(versions[start : max(places, default=-1) + 1])[: len(places)]
        content = {"experiment": key, "versions": rows, "next_cursor": found.next_cursor}
        return Response(
            orjson.dumps(content),
            headers=link_to_next(request, found.next_cursor),
            media_type="application/json",
        )


async def _done(
    request: Request,
    store: ExperimentStore,
    key: str,
    verb: str,
    comment: str,
    decide: Decision,
    *,
    checked: bool = True,
    deleted: bool = False,
) -> Response:
    document = store.find(key, deleted=deleted)
    document = await store.change(
        request, f"experiment.{verb}", document, decide, comment, checked=checked
    )
    return answer(store, document)


def _version(given: dict[str, Any]) -> int:
    version = given.get("to_version")
    if set(given) != {"to_version"} or not isinstance(version, int) or isinstance(version, bool):
        wrong = Wrong("to_version", "must be given, alone: the number of a version in the history")
        raise Problem(Kind.INVALID_REQUEST, str(wrong), errors=[wrong._asdict()])
    return version
