"""When API keys were last used: counted in memory, stored in ClickHouse once a minute at most.

So a request costs a write to a dictionary; a process that is killed forgets its last minute.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog

from service.metrics import ServiceMetrics
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.key_uses import Use

logger = structlog.get_logger("service.key_uses")

STORE_SECONDS = 60.0
_READ_SECONDS = 3.0


class UseStore(Protocol):
    async def add(self, uses: Mapping[str, Use]) -> None: ...
    async def read(self) -> dict[str, Use]: ...
    async def close(self) -> None: ...


class UseCounts:
    def __init__(
        self,
        store: UseStore,
        metrics: ServiceMetrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._failures = metrics.key_uses_failures
        self._sleep = sleep
        self._new: dict[str, list[int]] = {}
        """By key: the last use in milliseconds since 1970, and how many there were."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._store_regularly(), name="key-uses")

    async def stop(self) -> None:
        if self._task is None:
            return
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.flush()
        await self._store.close()

    def note(self, key: str, at_ms: int) -> None:
        uses = self._new.setdefault(key, [at_ms, 0])
        uses[0] = max(uses[0], at_ms)
        uses[1] += 1

    async def read(self) -> tuple[dict[str, Use], str | None]:
        """Of all processes; where ClickHouse does not tell, of this one since its last storing, and
        why there is no more."""
        problem = None
        found: dict[str, Use] = {}
        try:
            async with asyncio.timeout(_READ_SECONDS):
                found = await self._store.read()
        except (ClickHouseUnavailable, ClickHouseRefused, TimeoutError) as error:
            problem = str(error) or "ClickHouse did not answer in time"
        for key, use in _uses(self._new).items():
            found[key] = _sum(found.get(key), use)
        return found, problem

    async def flush(self) -> None:
        taken, self._new = self._new, {}
        if not taken:
            return
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await self._store.add(_uses(taken))
        except (ClickHouseUnavailable, ClickHouseRefused, TimeoutError) as error:
            self._failures.inc()
            logger.warning("the uses of keys wait", problem=str(error) or "no answer in time")
            for key, (at_ms, requests) in taken.items():
                self.note(key, at_ms)
                self._new[key][1] += requests - 1

    async def _store_regularly(self) -> None:
        while True:
            await self._sleep(STORE_SECONDS)
            await self.flush()


def _uses(counted: Mapping[str, list[int]]) -> dict[str, Use]:
    return {
        key: Use(datetime.fromtimestamp(at_ms / 1000, UTC), requests)
        for key, (at_ms, requests) in counted.items()
    }


def _sum(one: Use | None, other: Use) -> Use:
    if one is None:
        return other
    return Use(max(one.last_used_at, other.last_used_at), one.requests + other.requests)
