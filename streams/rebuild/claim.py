"""One rebuild at a time: a claim on the fresh database, held by signs of life in its journal.

A process that stood still for long looks at the journal again before it inserts anything: another
one may have dropped its tables and made its own under the same names.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from sinks.clickhouse import (
    UNKNOWN_DATABASE,
    UNKNOWN_TABLE,
    ClickHouseRefused,
    ClickHouseUnavailable,
)
from sinks.retry import RETRIABLE_CODES
from sinks.settings import ClickHouseSettings
from sinks.writer import Insert, Writer, WriterMetrics
from streams.rebuild.fresh import Fresh, RebuildError, Said, State, this_process
from streams.worker import boot_clock

ALIVE_SECONDS = 3.0
# An insert that was checked just before this may take as long as one request.
_TRUSTED_SECONDS = 15.0
SILENT_SECONDS = 60.0
_RETRY_SECONDS = 1.0


class Claim:
    def __init__(self, fresh: Fresh, writer: Writer) -> None:
        self._fresh = fresh
        self._writer = writer
        self._clock = boot_clock()
        self._id = ""
        self._said_at = 0.0
        self._lost = False

    @asynccontextmanager
    async def held(self, id_: str) -> AsyncIterator[None]:
        """The journal is there already."""
        self._id, self._said_at = id_, self._clock()
        await self._fresh.note(self._writer, id_, "alive")
        task = asyncio.create_task(self._say())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, ClickHouseRefused):
                await task

    async def check(self) -> None:
        """Return when it is certain that nobody has taken over. Raises RebuildError."""
        while self._id and (self._lost or self._clock() - self._said_at > _TRUSTED_SECONDS):
            if self._lost:
                raise RebuildError(
                    "this process stood still, and another one has gone on with the rebuild or "
                    "begun a new one: nothing more is done here"
                )
            if not await self._renewed():
                await asyncio.sleep(_RETRY_SECONDS)

    async def _say(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            await self._renewed()

    async def _renewed(self) -> bool:
        """False while ClickHouse is away, and when the claim is lost."""
        begun = self._clock()
        try:
            if begun - self._said_at > _TRUSTED_SECONDS and not await self._is_ours():
                self._lost = True
            if self._lost:
                return False
            await self._fresh.note(self._writer, self._id, "alive")
        except ClickHouseUnavailable:
            return False
        except ClickHouseRefused as refused:
            if refused.code in {UNKNOWN_TABLE, UNKNOWN_DATABASE}:
                self._lost = True
            elif refused.code not in RETRIABLE_CODES:
                raise
            return False
        self._said_at = begun
        return True

    async def _is_ours(self) -> bool:
        return await self._fresh.last_sign(self._writer) == (self._id, this_process())


class ClaimedWriter(Writer):
    """Inserts as long as the claim holds."""

    def __init__(self, settings: ClickHouseSettings, metrics: WriterMetrics, claim: Claim) -> None:
        super().__init__(settings, metrics)
        self._claim = claim

    async def insert(
        self, insert: Insert, token: str, allowed: Callable[[], Awaitable[bool]]
    ) -> None:
        async def claimed() -> bool:
            await self._claim.check()
            return await allowed()

        await super().insert(insert, token, claimed)


def may_run(said: Said) -> bool:
    """Whether the process that wrote the journal may still be at it."""
    if said.state not in {State.UNFINISHED, State.SWAPPING}:
        return False
    host, _, number = said.by.rpartition("/")
    if host == socket.gethostname() and number.isdecimal():
        return _is_alive(int(number))
    return said.silent_seconds < SILENT_SECONDS


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
