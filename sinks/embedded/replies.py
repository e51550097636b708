"""The way back: buffered until the first megabyte, so that an error before it has its own status;
then streamed, and an error is written behind what was sent and the connection cut."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sinks.embedded.compression import chosen, compressor
from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.parameters import Parameters
from sinks.embedded.results import Result
from sinks.embedded.spool import Spool, SpoolSpace

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LARGEST_BUFFER = 16 << 20
_COPY_BYTES = 1 << 20
# Compressing more than this at once would hold the event loop up.
_COMPRESS_IN_THREAD_BYTES = 1 << 16
_LEVELS = frozenset("123456789")
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "CSVWithNamesAndTypes": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONColumns": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "XML": "application/xml; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "Parquet": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
}


def content_type(output_format: str | None) -> str:
    if output_format is None:
        return "text/plain; charset=UTF-8"
    return _CONTENT_TYPES.get(output_format, "text/plain; charset=UTF-8")


class Reply:
    def __init__(
        self, send: Send, space: SpoolSpace, headers: dict[str, str], accepted_encodings: str
    ) -> None:
        self._send = send
        self._space = space
        self._accepted = accepted_encodings
        self.headers = headers
        self._tag = secrets.token_hex(8)
        self._held = bytearray()
        self._waiting: Spool | None = None  # a result held back whole, once it is long
        self._holds_all = False
        self._limit = 0
        self._compressor = compressor(None)
        self.started = False

    def expect(self, parameters: Parameters, output_format: str | None) -> None:
        """Before the first write: how this result is to go out."""
        self._holds_all = parameters.wait_end_of_query
        self._limit = min(parameters.buffer_bytes, _LARGEST_BUFFER)
        if output_format is not None:
            self.headers["X-ClickHouse-Format"] = output_format
        self.headers["Content-Type"] = content_type(output_format)
        encoding = chosen(self._accepted) if parameters.compresses else None
        if encoding is not None:
            self.headers["Content-Encoding"] = encoding
            level = parameters.settings.get("http_zlib_compression_level", "")
            self._compressor = compressor(encoding, int(level) if level in _LEVELS else 3)

    async def write(self, data: bytes) -> None:
        if self.started:
            await self._stream(data)
        elif self._waiting is not None:
            self._waiting.write(data)
        elif len(self._held) + len(data) <= self._limit:
            self._held += data
        elif self._holds_all:
            self._waiting = self._space.new()
            self._waiting.write(bytes(self._held))
            self._waiting.write(data)
            self._held.clear()
        else:
            await self._start(200)
            await self._stream(bytes(self._held))
            self._held.clear()
            await self._stream(data)

    async def finish(self, result: Result) -> None:
        if self.started:
            await self._body(self._compressor.flush(), more=False)
            return
        self.headers["X-ClickHouse-Summary"] = result.summary()
        if self._waiting is None:
            data = await self._compressed(bytes(self._held)) + self._compressor.flush()
            await self.whole(200, data)
            return
        await self._start(200)
        self._waiting.rewind()
        while chunk := self._waiting.read(_COPY_BYTES):
            await self._stream(chunk)
        await self._body(self._compressor.flush(), more=False)

    async def fail(self, error: ClickHouseError) -> None:
        if self.started:
            # As a server does it: a client that knows the tag tells the error from the data, and
            # for any other the missing end of the body says that something went wrong.
            text = f"{error}\n"
            size = len(text.encode())
            told = (
                f"\r\n__exception__\r\n{self._tag}\r\n{text}{size} {self._tag}\r\n__exception__\r\n"
            )
            await self._body(self._compressor.compress(told.encode()), more=True)
            await self._body(self._compressor.flush(), more=True)
            return
        self.headers.pop("Content-Encoding", None)
        self.headers.pop("X-ClickHouse-Format", None)
        self.headers["Content-Type"] = "text/plain; charset=UTF-8"
        self.headers["X-ClickHouse-Exception-Code"] = str(error.code)
        if error.code == Code.REQUIRED_PASSWORD:
            self.headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        await self.whole(error.status, f"{error}\n".encode())

    async def whole(self, status: int, data: bytes) -> None:
        self.headers["Content-Length"] = str(len(data))
        await self._start(status)
        await self._body(data, more=False)

    def close(self) -> None:
        if self._waiting is not None:
            self._waiting.close()

    async def _start(self, status: int) -> None:
        if status == 200 and "Content-Length" not in self.headers:
            self.headers["X-ClickHouse-Exception-Tag"] = self._tag
        self.started = True
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _stream(self, data: bytes) -> None:
        if compressed := await self._compressed(data):
            await self._body(compressed, more=True)

    async def _compressed(self, data: bytes) -> bytes:
        if "Content-Encoding" in self.headers and len(data) > _COMPRESS_IN_THREAD_BYTES:
            return await asyncio.to_thread(self._compressor.compress, data)
        return self._compressor.compress(data)

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
