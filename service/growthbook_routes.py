"""The door for GrowthBook's SDKs: features by client key, and a stream of their changes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter, Request, Response

from service.access import Access, Permission, needs
from service.answers import etag_of, is_unchanged
from service.assignments import Assigner
from service.definition_routes import EVENT_STREAM, event_stream
from service.event_streams import EventStreams
from service.growthbook_features import features
from service.problems import problem_answers
from streams.live_definitions import LiveDefinitions

# Browsers fetch from pages of any origin; the key is in the path, and no cookie counts here.
_ANYWHERE = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
_EXPOSED = {"Access-Control-Expose-Headers": "ETag, X-SSE-Support"}
_MAX_AGE_SECONDS = 5
_STALE_SECONDS = 3_600


class FeatureDocument:
    """The payload, made once for each revision and each moment at which a definition changes."""

    def __init__(self, definitions: LiveDefinitions, assigner: Assigner) -> None:
        self._definitions = definitions
        self._assigner = assigner
        self._made_of: object = None
        self._until = 0.0
        self._body = b""
        self._etag = ""

    def current(self) -> tuple[bytes, str]:
        now, current = time.time(), self._assigner.current()
        if self._made_of is not current or now >= self._until:
            documents = self._definitions.reader.documents
            made = features(current, now, documents.changed_at_ms)
            self._body = orjson.dumps(made.payload)
            self._etag = etag_of(self._body)
            self._made_of, self._until = current, made.until
        return self._body, self._etag

    @property
    def until(self) -> float:
        return self._until


def growthbook_routes(
    access: Access, document: FeatureDocument, streams: EventStreams
) -> APIRouter:
    router = access.router(tags=["GrowthBook SDKs"])

    @router.get("/api/features/{client_key}", responses=problem_answers(401, 403, 404, 429, 503))
    @needs(Permission.PUBLIC)  # the key is in the path, and checked there
    async def feature_payload(request: Request, client_key: str) -> Response:
        """Experiments as features; `client_key` is a key of the role evaluate.

        Give an SDK this service as its `apiHost` and the key as its `clientKey`. It gets the same
        variation as `POST /v1/assign`, when it has the unit among its attributes by its kind
        (`session`, `player`, ...). It logs exposures by its own tracking callback.
        """
        access.check_key(request, client_key, Permission.EVALUATE)
        body, etag = document.current()
        age = f"max-age={_MAX_AGE_SECONDS}, stale-while-revalidate={_STALE_SECONDS}"
        headers = {"ETag": etag, "Cache-Control": f"private, {age}", "X-SSE-Support": "enabled"}
        headers |= _ANYWHERE | _EXPOSED
        if is_unchanged(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    @router.get(
        "/sub/{client_key}",
        responses=EVENT_STREAM | problem_answers(401, 403, 404, 429, 503),
    )
    @needs(Permission.PUBLIC)
    async def feature_stream(request: Request, client_key: str) -> Response:
        """Server-sent events: `features` with the whole payload, at once and on every change."""
        access.check_key(request, client_key, Permission.EVALUATE)
        document.current()

        async def events() -> AsyncIterator[bytes]:
            sent = ""
            async for _ in streams.revisions(lambda: document.until):
                # Whoever lost the key meanwhile hears no more.
                access.check_key(request, client_key, Permission.EVALUATE)
                body, etag = document.current()
                if etag != sent:
                    sent = etag
                    yield b"event: features\ndata: " + body + b"\n\n"

        answer = event_stream(streams, events())
        answer.headers.update(_ANYWHERE)
        return answer

    return router
