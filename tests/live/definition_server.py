"""The routes of definitions over real HTTP, with the faults that a network has."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, SimpleQueue
from typing import Any, Literal

KEY = "a-key-of-the-role-evaluate"
Streaming = Literal["told", "silent", "missing"]


def document(key: str = "tone", version: int = 1, **fields: Any) -> dict[str, Any]:
    variations = [
        {"key": "control", "weight": 5_000, "params": {}},
        {"key": "warm", "weight": 5_000, "params": {"tone": "warm"}},
    ]
    definition = {"key": key, "variations": variations, **fields}
    return {"key": key, "version": version, "status": "running", "definition": definition}


def body_of(revision: int, *documents: dict[str, Any]) -> bytes:
    changed_at_ms = time.time_ns() // 1_000_000
    return json.dumps(
        {"revision": revision, "changed_at_ms": changed_at_ms, "documents": documents}
    ).encode()


class DefinitionServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.revision = 0
        self.body = body_of(0)
        self.streaming: Streaming = "told"
        self.answer: tuple[int, bytes, dict[str, str]] | None = None
        """In place of the definitions."""
        self.asked: list[int] = []
        """The status of each answer of definitions."""
        self.listeners: list[SimpleQueue[bytes | None]] = []

    def change(self, *documents: dict[str, Any]) -> None:
        self.revision += 1
        self.body = body_of(self.revision, *documents)
        told = f'event: changed\ndata: {{"revision": {self.revision}}}\n\n'.encode()
        for listener in list(self.listeners):
            listener.put(told)

    def cut_streams(self) -> None:
        for listener in list(self.listeners):
            listener.put(None)


class _Handler(BaseHTTPRequestHandler):
    server: DefinitionServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/v1/definitions":
            self._definitions()
        elif self.path == "/v1/definitions/stream" and self.server.streaming != "missing":
            self._stream()
        else:
            self._answer(404, b"{}", {})

    def _definitions(self) -> None:
        server = self.server
        etag = f'"{server.revision}"'
        if server.answer is not None:
            status, body, headers = server.answer
        elif self.headers.get("Authorization") != f"Bearer {KEY}":
            status, body, headers = 401, b"{}", {}
        elif self.headers.get("If-None-Match") == etag:
            status, body, headers = 304, b"", {"ETag": etag}
        else:
            status, body, headers = 200, server.body, {"ETag": etag}
        self._answer(status, body, headers)
        server.asked.append(status)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        listener: SimpleQueue[bytes | None] = SimpleQueue()
        listener.put(b": welcome\n\n")
        self.server.listeners.append(listener)
        try:
            while (told := self._next(listener)) is not None:
                if self.server.streaming == "told":
                    self.wfile.write(f"{len(told):x}\r\n".encode() + told + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass  # the client has gone
        finally:
            self.server.listeners.remove(listener)

    def _next(self, listener: SimpleQueue[bytes | None]) -> bytes | None:
        try:
            return listener.get(timeout=1)
        except Empty:
            return b": still here\n\n"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Not to the test's output."""


@contextmanager
def definition_server(port: int = 0) -> Iterator[DefinitionServer]:
    with DefinitionServer(port) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        serving.start()
        try:
            yield server
        finally:
            server.cut_streams()
            server.shutdown()
            serving.join()
