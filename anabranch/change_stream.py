"""The service tells of changes as they happen, by server-sent events.

It is a hint and no more: who hears of a change fetches the definitions, and who hears nothing asks
from time to time. So whatever stands between (a proxy that buffers, one that cuts long answers, a
service without the route) costs speed and never a change.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple, Protocol
from urllib.error import HTTPError

logger = logging.getLogger("anabranch")

SILENCE_SECONDS = 45.0
"""The service says something more often than this; a silent stream is a broken one."""
_LONGEST_LINE = 64 * 1024
_FIRST_WAIT_SECONDS = 0.25
_LONGEST_WAIT_SECONDS = 30.0
_WITHOUT_ROUTE_SECONDS = 300.0


class Message(NamedTuple):
    event: str
    data: str


class Streams(Protocol):
    def follow(self, silence_seconds: float) -> HTTPResponse: ...


def messages(lines: Iterable[bytes]) -> Iterator[Message | None]:
    """As HTML's standard reads an event stream; None for a line that only shows life."""
    event, data = "", list[str]()
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if data:
                yield Message(event or "message", "\n".join(data))
            event, data = "", []
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        yield None


class ChangeStream:
    """Follows the stream, in a thread of its own, until it is ended."""

    def __init__(
        self,
        source: Streams,
        changed: Callable[[int], None],
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """`changed` gets the revision that there is now, 0 where it is not told."""
        self._source = source
        self._changed = changed
        self._silence = silence_seconds
        self._ended = threading.Event()
        self._response: HTTPResponse | None = None
        self._failures = 0
        self.live = False
        """Something has come through, and the stream has not broken since."""

    def start(self) -> None:
        threading.Thread(target=self._run, name="anabranch-changes", daemon=True).start()

    def end(self) -> None:
        self._ended.set()
        response = self._response
        if response is None:
            return
        try:
            # A twin of the connection, since only its reader may touch the response.
            with socket.socket(fileno=os.dup(response.fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass  # it has ended by itself

    def _run(self) -> None:
        while not self._ended.is_set():
            wait = self._follow()
            self.live = False
            self._ended.wait(wait * random.uniform(0.5, 1))  # noqa: S311

    def _follow(self) -> float:
        """Returns how long to wait before the next try, in seconds."""
        try:
            with self._source.follow(self._silence) as response:
                self._response = response
                if self._ended.is_set():  # before anybody could interrupt this one
                    return 0
                kind = response.headers.get_content_type()
                if kind != "text/event-stream":
                    raise HTTPException(f"the stream of changes is {kind}")  # noqa: TRY301
                self._changed(0)  # whatever happened before somebody listened
                self._listen(response)
            logger.debug("the stream of changes has ended; it is followed again")
        except HTTPError as error:
            error.close()
            logger.debug("no stream of changes: %s", error)
            if error.code in {404, 405, 406, 501}:
                return _WITHOUT_ROUTE_SECONDS
        except (OSError, HTTPException, ValueError) as error:
            logger.debug("the stream of changes broke: %s", error)
        finally:
            self._response = None
        self._failures += 1
        doubled: float = _FIRST_WAIT_SECONDS * 2 ** min(self._failures, 10)
        return min(_LONGEST_WAIT_SECONDS, doubled)

    def _listen(self, response: HTTPResponse) -> None:
        lines = iter(lambda: response.readline(_LONGEST_LINE), b"")
        for message in messages(lines):
            self.live = True
            self._failures = 0
            if self._ended.is_set():
                return
            if message is not None and message.event == "changed":
                self._changed(_revision(message.data))


def _revision(data: str) -> int:
    try:
        found = json.loads(data)["revision"]
    except (ValueError, LookupError, TypeError):
        return 0
    return found if isinstance(found, int) else 0
