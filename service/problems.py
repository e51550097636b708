"""Errors as the caller sees them: RFC 9457 problems, each of a kind that this file names.

A kind's type is `/problems/<name>`, a path of the service itself that answers with its meaning. It
never changes once released; the detail is for people and may.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class _Kind(NamedTuple):
    slug: str
    status: int
    title: str
    meaning: str


class Kind(_Kind, Enum):
    MALFORMED_BODY = _Kind(
        "malformed-body",
        400,
        "The body cannot be read",
        "It is not JSON, or not what its Content-Encoding says. The detail gives the position.",
    )
    UNAUTHENTICATED = _Kind(
        "unauthenticated",
        401,
        "A key is needed",
        "There was no key or an unknown one. Send `Authorization: Bearer <key>`.",
    )
    FORBIDDEN = _Kind(
        "forbidden",
        403,
        "The key may not do this",
        "The key is known and its role lacks the permission. The detail names the roles that do.",
    )
    NOT_FOUND = _Kind("not-found", 404, "There is nothing here", "No such path or thing.")
    METHOD_NOT_ALLOWED = _Kind(
        "method-not-allowed",
        405,
        "The path exists, the method does not",
        "The Allow header lists the methods that do.",
    )
    CONFLICT = _Kind(
        "conflict",
        409,
        "Something else stands in the way",
        "A change that came first, or the state that the thing is in. The detail says which and "
        "what to do; `changes` has what somebody else has changed meanwhile.",
    )
    KEY_CONFLICT = _Kind(
        "key-conflict",
        409,
        "The keys there are stand in the way",
        "A name is taken, a key is revoked already, or there are too many. The detail says which "
        "and what to do.",
    )
    PRECONDITION_FAILED = _Kind(
        "precondition-failed",
        412,
        "It is not the version that If-Match names",
        "Nothing was changed. Read it again; `changes` has what is different now.",
    )
    BODY_TOO_LARGE = _Kind(
        "body-too-large",
        413,
        "The body is too large",
        "In bytes (before or after decompression) or in events. The detail names the limit; split "
        "the batch.",
    )
    UNSUPPORTED_MEDIA_TYPE = _Kind(
        "unsupported-media-type",
        415,
        "The body is of the wrong type",
        "Send application/json, as it is or with Content-Encoding: gzip.",
    )
    INVALID_REQUEST = _Kind(
        "invalid-request",
        422,
        "The request does not make sense",
        "It can be read and something in it is wrong. The errors name each place.",
    )
    RATE_LIMITED = _Kind(
        "rate-limited",
        429,
        "Too many requests",
        "Of this key or person. Nothing was done. Try again after Retry-After seconds; the headers "
        "RateLimit and RateLimit-Policy of every answer tell what is left.",
    )
    INTERNAL_ERROR = _Kind(
        "internal-error",
        500,
        "The service failed",
        "A fault of ours. The request id finds it in the log.",
    )
    OVERLOADED = _Kind(
        "overloaded",
        503,
        "Too much is under way",
        "Nothing of the request was accepted. Try again after Retry-After seconds.",
    )
    KAFKA_UNAVAILABLE = _Kind(
        "kafka-unavailable",
        503,
        "Kafka did not store the events",
        "Not every event was stored, some may have been: send the same events again, with the same "
        "event_id each, after Retry-After seconds.",
    )
    CHANGE_UNAVAILABLE = _Kind(
        "change-unavailable",
        503,
        "The change could not be stored",
        "Kafka did not answer in time. The detail says whether nothing was written or whether that "
        "is not known; then read it again before you repeat the change. Assignments go on.",
    )
    IDENTITY_UNAVAILABLE = _Kind(
        "identity-unavailable",
        503,
        "The identity provider did not answer",
        "The token is signed with a key that is not known yet, and the issuer could not be asked "
        "for it. Tokens signed with known keys, and API keys, go on. Try again after Retry-After "
        "seconds.",
    )
    CLICKHOUSE_UNAVAILABLE = _Kind(
        "clickhouse-unavailable",
        503,
        "ClickHouse did not answer",
        "Nothing is lost: events wait in Kafka. Try again after Retry-After seconds.",
    )
    QUERY_LIMIT = _Kind(
        "query-limit",
        503,
        "The question takes more than a query may",
        "More time or more memory; the detail says which, how much it may be, and the setting. Ask "
        "for a shorter span or for fewer metrics, or without segments.",
    )
    DEFINITIONS_UNAVAILABLE = _Kind(
        "definitions-unavailable",
        503,
        "The experiments are not known yet",
        "The definition log could not be read since the service began, and no earlier copy is "
        "there. Try again after Retry-After seconds; until then take your default.",
    )
    HTTP_ERROR = _Kind(
        "http-error", 400, "The request was refused", "The status says it all; see RFC 9110."
    )


_OF_STATUS = {
    404: Kind.NOT_FOUND,
    405: Kind.METHOD_NOT_ALLOWED,
    413: Kind.BODY_TOO_LARGE,
    415: Kind.UNSUPPORTED_MEDIA_TYPE,
}


class Problem(HTTPException):
    """An HTTPException, so that FastAPI lets it through wherever it is raised."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, Any]] | None = None,
        changes: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(kind.status, detail, headers)
        self.kind = kind
        self.errors = errors
        self.changes = changes


def problem_response(request: Request, problem: Problem, *, status: int | None = None) -> Response:
    content: dict[str, Any] = {
        "type": f"/problems/{problem.kind.slug}",
        "title": problem.kind.title,
        "status": status or problem.kind.status,
        "detail": problem.detail,
        "instance": request.scope["path"],
        "request_id": request.scope.get("request_id"),
    }
    if problem.errors is not None:
        content["errors"] = problem.errors
    if problem.changes is not None:
        content["changes"] = problem.changes
    return Response(
        orjson.dumps(content), content["status"], dict(problem.headers or {}), MEDIA_TYPE
    )


def http_problem(request: Request, error: HTTPException) -> Response:
    if isinstance(error, Problem):
        return problem_response(request, error)
    kind = _OF_STATUS.get(error.status_code, Kind.HTTP_ERROR)
    problem = Problem(kind, _explained(request, error), headers=error.headers)
    return problem_response(request, problem, status=error.status_code)


def add_problem_handlers(app: FastAPI) -> None:
    """Everything but a bug; that is caught at the top, in service/requests.py."""

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return http_problem(request, error)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"at": ".".join(map(str, found["loc"])), "error": found["msg"]}
            for found in error.errors()
        ]
        detail = "; ".join(f"{found['at']}: {found['error']}" for found in errors[:3])
        return problem_response(request, Problem(Kind.INVALID_REQUEST, detail, errors=errors))

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)


def problem_answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the documentation of a route."""
    return {
        status: {
            "description": " Or: ".join(k.title for k in Kind if k.status == status) + ".",
            "content": {MEDIA_TYPE: {"schema": _DOCUMENTED}},
        }
        for status in statuses
    }


_DOCUMENTED = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "Which kind; explained at this very path."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, where, what would be right."},
        "instance": {"type": "string", "description": "The path of the request."},
        "request_id": {"type": "string", "description": "Finds the request in the log."},
        "errors": {
            "type": "array",
            "description": "Each thing that is wrong, and where.",
            "items": {"type": "object"},
        },
        "changes": {
            "type": "array",
            "description": "What is different from the version that the change was based on.",
            "items": {"type": "object"},
        },
    },
}


def _explained(request: Request, error: HTTPException) -> str:
    path = shortened(request.scope["path"])
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"{path} does not exist; /docs lists what does"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{request.method} is not allowed on {path}; use {allowed}"
    return str(error.detail)


def shortened(text: str, length: int = 80) -> str:
    """Given text as an error repeats it: never all of it when it is long."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"
