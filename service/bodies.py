"""Bodies from strangers: never held beyond the limit, never parsed into a surprise.

The limit counts the bytes that come in and, where they are compressed, the bytes that come out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson
from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Kind, Problem, problem_response, shortened

_GZIP = 16 + zlib.MAX_WBITS
_LINGER_SECONDS = 10.0


class BodyLimitMiddleware:
    """Raises on the way to whoever reads the body, so that no reader can forget the limit."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(receive, send, self.max_bytes)
        try:
            body.expect(headers.get("content-length", ""), headers.get("content-encoding", ""))
        except Problem as problem:
            await problem_response(Request(scope), problem)(scope, receive, body.send)
            return
        await self.app(scope, body.receive, body.send)


class _Body:
    """The two ends of one request, with a count between them."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._decoder: _Gunzip | None = None
        self._read = 0
        self._decoded = 0
        self._refused = False

    def expect(self, length: str, encoding: str) -> None:
        """What the head says is refused before a single byte of the body is read."""
        if length.isdecimal() and int(length) > self._max_bytes:
            raise self._too_large()
        self._decoder = _decoder(encoding.strip().lower())

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        chunk: bytes = message.get("body", b"")
        self._read += len(chunk)
        if self._read > self._max_bytes:
            raise self._too_large()
        if self._decoder is None:
            return message
        more = message.get("more_body", False)
        # One byte more than is allowed is enough to know, however far the rest would expand.
        chunk = self._decoder.decode(chunk, self._max_bytes - self._decoded + 1, last=not more)
        self._decoded += len(chunk)
        if self._decoded > self._max_bytes:
            raise self._too_large("after decompression ")
        return {"type": "http.request", "body": chunk, "more_body": more}

    async def send(self, message: Message) -> None:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (self._refused and last):
            await self._send(message)
            return
        # A connection closed on a client that still sends is reset, and takes our answer with it.
        # So what comes is thrown away for a moment, until the client has read why.
        await self._send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while (await self._receive()).get("more_body", False):
                    pass
        await self._send({"type": "http.response.body", "body": b""})

    def _too_large(self, when: str = "") -> Problem:
        self._refused = True
        return Problem(
            Kind.BODY_TOO_LARGE,
            f"the body may have {self._max_bytes:,} bytes {when}at most; send smaller batches",
            headers={"Connection": "close"},
        )


class _Gunzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._begun = False

    def decode(self, chunk: bytes, max_bytes: int, *, last: bool) -> bytes:
        self._begun = self._begun or bool(chunk)
        try:
            decoded = self._stream.decompress(chunk, max_bytes)
        except zlib.error as error:
            raise Problem(
                Kind.MALFORMED_BODY, f"the body is not gzip as its Content-Encoding says: {error}"
            ) from error
        if self._stream.unused_data:
            raise Problem(Kind.MALFORMED_BODY, "the body goes on after the end of its gzip stream")
        if last and self._begun and not self._stream.eof and len(decoded) < max_bytes:
            raise Problem(Kind.MALFORMED_BODY, "the body ends in the middle of its gzip stream")
        return decoded


def _decoder(encoding: str) -> _Gunzip | None:
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip"}:
        return _Gunzip()
    raise Problem(
        Kind.UNSUPPORTED_MEDIA_TYPE,
        f"Content-Encoding {shortened(encoding)!r} is not supported; send gzip or nothing",
        headers={"Accept-Encoding": "gzip"},
    )


async def read_json_object(request: Request, *, max_depth: int) -> dict[str, Any]:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != "application/json" and not (
        given.startswith("application/") and given.endswith("+json")
    ):
        raise Problem(
            Kind.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type must be application/json, not {shortened(given) or 'absent'}",
        )
    value = parse_json(await request.body(), max_depth=max_depth)
    if not isinstance(value, dict):
        raise Problem(Kind.INVALID_REQUEST, f"the body must be an object, not {json_type(value)}")
    return value


def parse_json(body: bytes, *, max_depth: int) -> Any:
    """The value, or a problem that says where it ends to be one.

    Stricter than JSON itself in three ways, since what parsers disagree about is how data gets
    lost: a name may stand once in an object, nesting has a limit, and a number must fit.
    """
    try:
        # orjson refuses NaN, Infinity, lone surrogates and bad UTF-8, and stops at depth 1024.
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(
            Kind.MALFORMED_BODY,
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno} "
            f"(character {error.pos})",
        ) from error
    names = _count_names(value, max_depth)
    # Every name is followed by a colon, so more of those than names means that one came twice,
    # or that a string holds '":'. Which of them, the slow pass tells.
    if body.translate(None, b" \t\r\n").count(b'":') != names:
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    return value


def _count_names(value: Any, max_depth: int) -> int:
    """Level by level, not by recursion: the stack stays flat whatever the nesting."""
    names = 0
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(max_depth):
        below: list[Any] = []
        for container in level:
            if type(container) is dict:
                names += len(container)
                below += [inner for inner in container.values() if type(inner) in _CONTAINERS]
            else:
                below += [inner for inner in container if type(inner) in _CONTAINERS]
        if not below:
            return names
        level = below
    raise Problem(Kind.INVALID_REQUEST, f"the body is nested deeper than {max_depth} levels")


_CONTAINERS = frozenset({dict, list})


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            _refuse_name(name)
        seen[name] = value
    return seen


def _refuse_name(name: str) -> NoReturn:
    raise Problem(
        Kind.INVALID_REQUEST,
        f"an object holds the name {shortened(name)!r} twice; which value counts is not defined",
    )


def json_type(value: Any) -> str:
    """What a JSON value is called, for errors."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    for kind, name in ((int | float, "a number"), (str, "a string"), (list, "an array")):
        if isinstance(value, kind):
            return name
    return "an object"
