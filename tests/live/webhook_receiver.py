"""Somebody who takes webhooks: a real server that checks signatures as the specification says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, plain").decode()
_OLDEST_SECONDS = 300


class Received(NamedTuple):
    id: str
    body: dict[str, Any]
    is_genuine: bool
    at: float


class Receiver:
    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[tuple[int, float]] = []
        """Statuses and seconds of the next answers; after them 204 at once."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/T0KEN"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        identity = request.headers["webhook-id"]
        found = Received(identity, json.loads(body), _is_genuine(request, body), time.monotonic())
        self.received.append(found)
        status, seconds = self.answers.pop(0) if self.answers else (204, 0.0)
        time.sleep(seconds)
        try:
            request.send_response(status)
            request.end_headers()
        except OSError:
            pass  # the sender did not wait

    def of(self, experiment: str) -> list[Received]:
        return [one for one in self.received if one.body["data"]["experiment"] == experiment]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _is_genuine(request: BaseHTTPRequestHandler, body: bytes) -> bool:
    identity, at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
    if abs(time.time() - int(at)) > _OLDEST_SECONDS:
        return False
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{identity}.{at}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = [one.removeprefix("v1,") for one in request.headers["webhook-signature"].split()]
    return any(hmac.compare_digest(expected, one) for one in given)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.stop()
