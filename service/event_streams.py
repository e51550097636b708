"""Server-sent events: open until the reader leaves or the service ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from service.metrics import ServiceMetrics
from service.problems import Kind, Problem
from streams.live_definitions import LiveDefinitions

MOST_OPEN = 1_000
_HEARTBEAT_SECONDS = 15.0
_LONG_SECONDS = 3_600.0
_HEARTBEAT = b": still here\n\n"


class EventStreams:
    def __init__(
        self, definitions: LiveDefinitions, metrics: ServiceMetrics, most_open: int = MOST_OPEN
    ) -> None:
        self._definitions = definitions
        self._metrics = metrics
        self._most_open = most_open
        self._open = 0
        self._ending = asyncio.Event()

    def end(self) -> None:
        """The service stops: nobody is kept waiting for a stream that never ends by itself."""
        self._ending.set()

    async def revisions(
        self, until: Callable[[], float] = lambda: float("inf")
    ) -> AsyncIterator[int]:
        """The present one, each that follows, and again when the time has come that `until` says,
        in seconds since 1970."""
        while True:
            revision = self._definitions.revision
            yield revision
            seconds = max(0.0, until() - time.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, _LONG_SECONDS)):
                    await self._definitions.reader.wait_beyond(revision)

    def check_room(self) -> None:
        """Before the answer begins."""
        if self._open >= self._most_open:
            raise Problem(
                Kind.OVERLOADED,
                f"{self._open:,} streams are open, and no more may be; poll instead",
                headers={"Retry-After": "30"},
            )

    async def kept_alive(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """With a comment now and then, so that proxies and dead readers are found out."""
        self._open += 1
        self._metrics.streams_open.set(self._open)
        ending = asyncio.create_task(self._ending.wait())
        following: asyncio.Future[bytes] | None = None
        try:
            while not self._ending.is_set():
                if following is None:
                    following = asyncio.ensure_future(anext(events))
                waiting: set[asyncio.Future[Any]] = {following, ending}
                await asyncio.wait(
                    waiting,
                    timeout=_HEARTBEAT_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not following.done():
                    yield _HEARTBEAT
                    continue
                event, following = following.result(), None
                yield event
        finally:
            self._open -= 1
            self._metrics.streams_open.set(self._open)
            for task in (ending, following):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                        await task
