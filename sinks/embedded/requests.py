"""A request as it comes in: its parts, its body, and whether anybody still waits for the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from sinks.embedded.compression import Inflater

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class ClientGone(Exception):  # noqa: N818  # a fact, and nobody is left to be told of it
    """The client went away before its body was whole."""


class Request:
    def __init__(self, scope: Message, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        self.pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        self._receive = receive

    @property
    def asks(self) -> bool:
        """Whether there is a query in it: a bare GET of / is a health check."""
        return self.method == "POST" or any(name == "query" for name, _ in self.pairs)

    async def body(self) -> AsyncGenerator[bytes]:
        """In pieces, with its content encoding undone."""
        inflater = Inflater(self.headers.get("content-encoding", ""))
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if data := message.get("body", b""):
                for piece in inflater.inflate(data):
                    yield piece
        inflater.finish()

    async def gone(self) -> None:
        """Returns when the client has gone; only after the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
