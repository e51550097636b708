"""The variations of an experiment, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query, Request, Response

from anabranch.definition_records import Document
from service.access import Access, Permission, needs
from service.definition_changes import content_of
from service.experiment_answers import VariationAnswer, VariationsAnswer
from service.experiment_documentation import CHANGING, NEW_VARIATION, VARIATION_PATCH, Comment
from service.experiment_routes import CHANGED, READ, body
from service.experiment_store import ExperimentStore
from service.experiments import Change, Standing, amended
from service.problems import problem_answers
from service.settings import ServiceSettings
from service.variation_changes import (
    Variations,
    place_of,
    with_change,
    with_variation,
    without_variation,
)

Rebalance = Annotated[
    bool,
    Query(
        description="Whether the weights of the others follow, in proportion, so that all sum to "
        "10,000; else the request is refused where they do not."
    ),
]


def variation_routes(
    access: Access, store: ExperimentStore, settings: ServiceSettings
) -> APIRouter:
    router = access.router(tags=["experiments"])
    path = "/v1/experiments/{key}/variations"

    @router.get(path, response_model=VariationsAnswer, responses=problem_answers(*READ))
    @needs(Permission.VIEW)
    async def list_(key: str) -> Response:
        """The variations of an experiment; the first is the control and the default."""
        document = store.find(key)
        content = {
            "experiment": key,
            "version": document.version,
            "variations": _variations(document),
        }
        return _answer(document, content)

    @router.post(
        path,
        status_code=201,
        response_model=VariationAnswer,
        openapi_extra=NEW_VARIATION,
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.EXPERIMENT)
    async def add(
        request: Request, key: str, rebalance: Rebalance = True, comment: Comment = ""
    ) -> Response:
        """Adds one, behind the others, which make room for it. While the experiment runs, that
        opens a phase: units that were exposed keep what they have."""
        given = await body(request, settings)
        document = await _changed(
            *(request, store, key, "variation_add", comment),
            lambda variations: with_variation(variations, given, rebalance=rebalance),
        )
        added = _variations(document)[-1]
        location = f"/v1/experiments/{quote(key)}/variations/{quote(added['key'])}"
        return _one(document, added, location)

    @router.patch(
        path + "/{variation}",
        response_model=VariationAnswer,
        openapi_extra=VARIATION_PATCH,
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.EXPERIMENT)
    async def change(
        request: Request,
        key: str,
        variation: str,
        rebalance: Rebalance = True,
        comment: Comment = "",
    ) -> Response:
        """Changes some fields of one, by a JSON merge patch. A new weight moves the others'."""
        patch = await body(request, settings)
        place = 0

        def changed(variations: Sequence[Mapping[str, Any]]) -> Variations:
            nonlocal place
            place = place_of(variations, variation)
            return with_change(variations, variation, patch, rebalance=rebalance)

        document = await _changed(request, store, key, "variation_change", comment, changed)
        return _one(document, _variations(document)[place])

    @router.delete(
        path + "/{variation}",
        status_code=204,
        response_class=Response,
        openapi_extra=CHANGING,
        responses=problem_answers(*CHANGED),
    )
    @needs(Permission.EXPERIMENT)
    async def remove(
        request: Request,
        key: str,
        variation: str,
        rebalance: Rebalance = True,
        comment: Comment = "",
    ) -> Response:
        """Removes one, and the others share out its weight. Not while the experiment runs."""
        document = await _changed(
            *(request, store, key, "variation_remove", comment),
            lambda variations: without_variation(variations, variation, rebalance=rebalance),
        )
        return Response(status_code=204, headers={"ETag": f'"{document.version}"'})

    return router


async def _changed(
    request: Request,
    store: ExperimentStore,
    key: str,
    verb: str,
    comment: str,
    change: Callable[[Sequence[Mapping[str, Any]]], Variations],
) -> Document:
    def decide(now: Standing) -> Change:
        return amended(now, {"variations": change(now.raw["variations"])}, store.now())

    return await store.change(request, f"experiment.{verb}", store.find(key), decide, comment)


def _variations(document: Document) -> list[dict[str, Any]]:
    variations: list[dict[str, Any]] = content_of(document)["variations"]
    return variations


def _one(document: Document, variation: dict[str, Any], location: str | None = None) -> Response:
    content = {**variation, "experiment": document.key, "version": document.version}
    return _answer(document, content, location)


def _answer(document: Document, content: dict[str, Any], location: str | None = None) -> Response:
    headers = {"ETag": f'"{document.version}"'}
    if location is not None:
        headers["Location"] = location
    return Response(orjson.dumps(content), 201 if location else 200, headers, "application/json")
