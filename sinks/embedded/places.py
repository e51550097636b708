"""A bounded number of queries at once, and a bounded queue before them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sinks.embedded.errors import ClickHouseError, Code


class Places:
    def __init__(self, running: int, queue: int, wait_seconds: float) -> None:
        self._free = asyncio.Semaphore(running)
        self._queue = queue
        self._wait_seconds = wait_seconds
        self.waiting = 0
        self.running = 0

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        if self._free.locked() and self.waiting >= self._queue:
            raise self._refusal(f"{self.waiting} queries wait already")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise self._refusal(f"no place in {self._wait_seconds:g} s") from None
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()

    def _refusal(self, reason: str) -> ClickHouseError:
        return ClickHouseError(
            Code.TOO_MANY_SIMULTANEOUS_QUERIES,
            f"Too many simultaneous queries: {self.running} run, {reason}.",
        )
