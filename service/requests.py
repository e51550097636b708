"""What every request gets: an id, safe headers, one log line, its figures, an answer if all fails.

The outermost layer, as plain ASGI: nothing of a request happens outside of it.
"""

from __future__ import annotations

import re
import secrets
import time

import structlog
from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, problem_response

logger = structlog.get_logger("service.requests")

# What a log line can safely repeat; anything else gets an id of ours.
_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
RATE_HEADERS = "anabranch.rate_headers"
"""Where a limited request carries the headers of its answer, whatever that will be."""
# Asked all the time: a line for each would cost more than the answer, and metrics count them.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/v1/assign"})

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

_SECURITY = [
    (name.lower().encode("latin-1"), value.encode("latin-1"))
    for name, value in SECURITY_HEADERS.items()
]


class RequestMiddleware:
    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["request_id"] = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = scope["started"] = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": _with_ours(message, scope, request_id)}
            await send(message)

        with self.metrics.requests_in_flight.track_inprogress():
            try:
                await self.app(scope, receive, send_with_headers)
            except Exception:  # the top of a request: nothing above could answer it
                logger.exception("a request failed")
                if status == 0:
                    failure = Problem(Kind.INTERNAL_ERROR, "The service failed; see its log.")
                    answer = problem_response(Request(scope), failure)
                    await answer(scope, receive, send_with_headers)
                else:
                    raise  # half an answer is out: the server must cut the connection
            finally:
                self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(route, method, status or "none").inc()
        self.metrics.request_seconds.labels(route, method).observe(seconds)
        say = logger.debug if route in _QUIET and status < 400 else logger.info
        say(
            "request",
            route=route,
            method=method,
            status=status or None,  # none: the caller left before the answer began
            duration_ms=round(seconds * 1000, 2),
        )


def _with_ours(message: Message, scope: Scope, request_id: str) -> list[tuple[bytes, bytes]]:
    """As bytes, and the same ones each time: every answer comes through here."""
    headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
    given = {name for name, _ in headers}
    headers += [header for header in _SECURITY if header[0] not in given]
    headers.append((b"x-request-id", request_id.encode("latin-1")))
    headers += [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in scope.get(RATE_HEADERS, {}).items()
        if name.lower().encode("latin-1") not in given
    ]
    return headers


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _SANE_ID.fullmatch(given) else secrets.token_hex(12)
