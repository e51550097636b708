"""The door for OpenFeature: the remote evaluation protocol (OFREP), flags are experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from fastapi import APIRouter, Request, Response

from anabranch.assignment import Assignment, Reason
from anabranch.definition_set import ANY_KIND, Units
from anabranch.pseudonyms import personal_identifier
from service.access import Access, Permission, needs
from service.answers import etag_of, is_unchanged
from service.assignments import Assigner
from service.bodies import json_type, read_json_object
from service.metrics import ServiceMetrics
from service.problems import Problem, problem_answers
from service.settings import ServiceSettings

# OpenFeature's words for why a flag has its value.
_REASONS: Mapping[Reason, str] = {
    Reason.ASSIGNED: "SPLIT",
    Reason.EARLIER_PHASE: "SPLIT",
    Reason.FORCED: "TARGETING_MATCH",
    Reason.NOT_RUNNING: "DISABLED",
    Reason.FAILED: "ERROR",
    Reason.INVALID_DEFINITION: "ERROR",
}
_CONTEXT = {
    "type": "object",
    "required": ["context"],
    "properties": {
        "context": {
            "type": "object",
            "description": "`targetingKey` is the unit, but of a kind that is an attribute "
            "of its own (`player`); all else are attributes.",
        }
    },
    "examples": [{"context": {"targetingKey": "u1", "locale": "en"}}],
}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": _CONTEXT}}}}


class _Refused(Exception):  # noqa: N818  # answered in the protocol's own form
    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class _Context(NamedTuple):
    units: Units
    attributes: Mapping[str, Any]


def ofrep_routes(
    access: Access, assigner: Assigner, metrics: ServiceMetrics, settings: ServiceSettings
) -> APIRouter:
    router = access.router(tags=["OpenFeature"])

    async def context_of(request: Request) -> _Context:
        try:
            body = await read_json_object(request, max_depth=settings.max_json_depth)
        except Problem as problem:
            if problem.kind.status in (400, 422):
                raise _Refused("PARSE_ERROR", problem.detail) from problem
            raise
        return _read_context(body.get("context"))

    @router.post(
        "/ofrep/v1/evaluate/flags/{key}",
        openapi_extra=_BODY,
        responses=problem_answers(401, 403, 413, 415, 429, 503),
    )
    @needs(Permission.EVALUATE, experiment="key")
    async def evaluate(request: Request, key: str) -> Response:
        """One experiment as a flag: its value is the parameters, its variant the variation.

        The exposure is logged in the background. Errors are of the protocol's form.
        """
        try:
            context = await context_of(request)
        except _Refused as refused:
            return _error(400, refused.code, str(refused), key)
        definitions = assigner.current()
        found = definitions.assign(key, context.units, context.attributes)
        metrics.assignments.labels("ofrep", found.reason.value).inc()
        if found.reason is Reason.UNKNOWN_EXPERIMENT:
            return _error(404, "FLAG_NOT_FOUND", f"no experiment has the key {key[:128]}", key)
        if found.reason is Reason.INVALID_DEFINITION:
            return _error(400, "GENERAL", found.rationale, key)
        assigner.log(definitions, [found], context.attributes)
        return _answer(_flag(found))

    @router.post(
        "/ofrep/v1/evaluate/flags",
        openapi_extra=_BODY,
        responses=problem_answers(401, 403, 413, 415, 429, 503),
    )
    @needs(Permission.EVALUATE)
    async def evaluate_all(request: Request) -> Response:
        """Every experiment that is not deleted, at once; with an ETag, 304 when nothing changed.

        Nothing is logged: who asks for all has not shown any. Log an exposure with
        `POST /v1/events` or ask for the flag by itself when it takes effect.
        """
        try:
            context = await context_of(request)
        except _Refused as refused:
            return _error(400, refused.code, str(refused))
        definitions = assigner.current()
        flags = []
        for key in definitions.plans:
            found = definitions.assign(key, context.units, context.attributes)
            metrics.assignments.labels("ofrep", found.reason.value).inc()
            flags.append(_flag(found))
        body = orjson.dumps({"flags": flags})
        etag = etag_of(body)
        if is_unchanged(request, etag):
            return Response(status_code=304, headers={"ETag": etag})
        return Response(body, headers={"ETag": etag}, media_type="application/json")

    return router


def _read_context(given: Any) -> _Context:
    if given is None:
        raise _Refused("TARGETING_KEY_MISSING", "the body has no context with a targetingKey")
    if not isinstance(given, dict):
        raise _Refused("INVALID_CONTEXT", f"context must be an object, not {json_type(given)}")
    attributes = dict(given)
    unit = attributes.pop("targetingKey", None)
    if unit is None or unit == "":
        raise _Refused("TARGETING_KEY_MISSING", "context.targetingKey is missing: it is the unit")
    if not isinstance(unit, str) or len(unit) > 256 or not unit.isprintable():
        raise _Refused(
            "INVALID_CONTEXT", "context.targetingKey must be text of 256 characters at most"
        )
    if (kind := personal_identifier(unit)) is not None:
        raise _Refused("INVALID_CONTEXT", f"context.targetingKey is a raw {kind}; send a pseudonym")
    return _Context({ANY_KIND: unit}, attributes)


def _flag(found: Assignment) -> dict[str, Any]:
    return {
        "key": found.experiment,
        "reason": _REASONS.get(found.reason, "DEFAULT"),
        "variant": found.variation,
        "value": dict(found.params),
        "metadata": {
            "version": found.version,
            "in_experiment": found.in_experiment,
            "rationale": found.rationale,
            "exposure_id": found.exposure_id,
        },
    }


def _answer(content: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _error(status: int, code: str, detail: str, key: str | None = None) -> Response:
    content = {"errorCode": code, "errorDetails": detail}
    return _answer(content if key is None else {"key": key[:128], **content}, status)
