"""Definitions for processes that decide by themselves: the SDK's door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from service.access import Access, Permission, needs
from service.answers import etag_of, is_unchanged
from service.assignments import Assigner
from service.event_streams import EventStreams
from service.problems import problem_answers
from streams.live_definitions import LiveDefinitions

EVENT_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_FOR_SDKS = frozenset({"experiment", "holdout", "group", "parameter_set", "limits", "members"})


class DefinitionDocument:
    """The document, made once for each revision."""

    def __init__(self, definitions: LiveDefinitions, assigner: Assigner) -> None:
        self._definitions = definitions
        self._assigner = assigner
        self._made_of: object = None
        self._body = b""
        self._etag = ""

    def current(self) -> tuple[bytes, str]:
        documents = self._definitions.reader.documents
        current = self._assigner.current()  # a problem while nothing is known
        if self._made_of is not documents:
            content = {
                "revision": documents.revision,
                "changed_at_ms": documents.changed_at_ms,
                "documents": [
                    {
                        "key": one.key,
                        "version": one.version,
                        "status": one.status,
                        "definition": dict(one.definition),
                    }
                    for one in current.documents()
                    if (one.key.partition(":")[0] if ":" in one.key else "experiment") in _FOR_SDKS
                ],
            }
            self._body = orjson.dumps(content)
            self._etag = etag_of(self._body)
            self._made_of = documents
        return self._body, self._etag


def definition_routes(
    access: Access, document: DefinitionDocument, streams: EventStreams
) -> APIRouter:
    router = access.router(tags=["assignment"])

    @router.get("/v1/definitions", responses=problem_answers(401, 403, 429, 503))
    @needs(Permission.EVALUATE)
    async def definitions(request: Request) -> Response:
        """Everything that a process needs to decide by itself, as the SDK's `Experiments` takes it.

        Ask again with `If-None-Match`: 304 means that nothing has changed.
        """
        body, etag = document.current()
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if is_unchanged(request, etag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    @router.get(
        "/v1/definitions/stream",
        responses=EVENT_STREAM | problem_answers(401, 403, 429, 503),
    )
    @needs(Permission.EVALUATE)
    async def definition_stream(request: Request) -> Response:
        """Server-sent events: `changed`, at once and whenever GET /v1/definitions has changed."""

        async def events() -> AsyncIterator[bytes]:
            async for revision in streams.revisions():
                # Whoever lost the key meanwhile hears no more.
                await access.admit(request, Permission.EVALUATE)
                yield b'event: changed\ndata: {"revision": %d}\n\n' % revision

        return event_stream(streams, events())

    return router


def event_stream(streams: EventStreams, events: AsyncIterator[bytes]) -> StreamingResponse:
    streams.check_room()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        streams.kept_alive(events), headers=headers, media_type="text/event-stream"
    )
