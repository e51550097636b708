"""One migrating process at a time, from a database that has no locks.

Holding the lock means having created the table with the highest number: `migration_lock_000007`.
CREATE TABLE without IF NOT EXISTS is the one atomic test-and-set there is; on a cluster Keeper puts
the creators in one order. The newest table stays when the lock is given back, so no number is ever
used twice: whoever judged lock 7 to be stale and comes late finds 8 there, and cannot remove the
lock of a process that was faster.

The table's rows are signs of life. Without one for STALE_AFTER_SECONDS, by the server's clock, the
holder counts as dead. A holder that was merely stopped finds out before its next statement; the one
it may already have sent is why every statement is safe to run twice.
"""

# ruff: noqa: S608  # names come from settings with a pattern, the owner from this host

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from sinks.clickhouse import (
    TABLE_ALREADY_EXISTS,
    UNKNOWN_TABLE,
    AsyncClient,
    ClickHouseRefused,
    typed_errors,
)
from sinks.migration_files import MigrationError
from sinks.migration_journal import EVERY_NODE
from sinks.settings import ClickHouseSettings

STALE_AFTER_SECONDS = 60
BEAT_SECONDS = 5
PREFIX = "migration_lock_"

log = structlog.get_logger()


class Seen(NamedTuple):
    """The newest lock table, and what its rows say."""

    number: int
    owner: str
    released: bool
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Lock:
    client: AsyncClient
    settings: ClickHouseSettings
    owner: str

    async def newest(self) -> Seen | None:
        """None when there has never been a lock."""
        found = await self._rows(
            "SELECT name, toFloat64(now() - metadata_modification_time) FROM system.tables "
            f"WHERE database = '{self.settings.database}' AND startsWith(name, '{PREFIX}') "
            "ORDER BY name DESC LIMIT 1"
        )
        if not found:
            return None
        table, age_seconds = found[0]
        number = int(table.removeprefix(PREFIX))
        beats = await self._rows(
            "SELECT any(owner), max(released), toFloat64(now64(3) - max(at)) "
            f"FROM `{self.settings.database}`.{table} HAVING count() > 0"
        )
        if not beats:  # created a moment ago, or its creator died before its first sign of life
            return Seen(number, "a process that has not said its name", False, age_seconds)
        return Seen(number, *beats[0])

    async def try_take(self, number: int) -> bool:
        try:
            await self._run(self.create_statement(number))
        except ClickHouseRefused as refused:
            if refused.code == TABLE_ALREADY_EXISTS:
                return False
            raise
        await self.beat(number)
        # Numbers below the newest are removed, so one that was judged long ago may look free again.
        return await self.holds(number)

    async def holds(self, number: int) -> bool:
        newest = await self.newest()
        return newest is not None and (newest.number, newest.owner) == (number, self.owner)

    async def beat(self, number: int, *, released: bool = False) -> None:
        try:
            await self._run(
                f"INSERT INTO {self._table(number)} (owner, released) "
                f"VALUES ('{self.owner}', {str(released).lower()})"
            )
        except ClickHouseRefused as refused:
            if refused.code != UNKNOWN_TABLE:  # a later holder removed it, as `holds` will tell
                raise

    async def remove_older(self, number: int) -> None:
        older = await self._rows(
            f"SELECT name FROM system.tables WHERE database = '{self.settings.database}' "
            f"AND startsWith(name, '{PREFIX}') AND name < '{PREFIX}{number:06}'"
        )
        for (table,) in older:
            await self._run(
                f"DROP TABLE IF EXISTS `{self.settings.database}`.{table}{self._on_cluster()} SYNC"
            )

    def create_statement(self, number: int) -> str:
        engine = EVERY_NODE if self.settings.cluster else "MergeTree"
        return f"""CREATE TABLE {self._table(number)}{self._on_cluster()}
(
    owner String COMMENT 'Host and process that holds the lock',
    released Bool COMMENT 'true: given back',
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'A sign of life, UTC, in ms'
)
ENGINE = {engine}
ORDER BY at
COMMENT 'The lock of `anabranch migrate`; the newest table is it, and its rows are signs of life'"""

    def _table(self, number: int) -> str:
        return f"`{self.settings.database}`.{PREFIX}{number:06}"

    def _on_cluster(self) -> str:
        return f" ON CLUSTER `{self.settings.cluster}`" if self.settings.cluster else ""

    async def _run(self, statement: str) -> None:
        with typed_errors(self.settings):
            await self.client.command(statement)

    async def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with typed_errors(self.settings):
            return [tuple(row) for row in (await self.client.query(query)).result_rows]


@asynccontextmanager
async def held(lock: Lock, *, wait_seconds: float = 300) -> AsyncIterator[int]:
    """The number of the lock, held for the block. Waits for another holder, not for ever."""
    number = await _take(lock, time.monotonic() + wait_seconds)
    beating = asyncio.create_task(_beat_until_cancelled(lock, number))
    try:
        await lock.remove_older(number)
        yield number
    finally:
        beating.cancel()
        await asyncio.wait([beating])
        await lock.beat(number, released=True)


async def _take(lock: Lock, deadline: float) -> int:
    while True:
        try:
            newest = await lock.newest()
        except ClickHouseRefused as refused:
            if refused.code != UNKNOWN_TABLE:  # it was removed between two looks
                raise
            continue
        free = newest is None or newest.released or newest.silent_seconds > STALE_AFTER_SECONDS
        number = 1 if newest is None else newest.number + 1
        if free:
            if newest is not None and not newest.released:
                log.warning(
                    "the holder of the migration lock is silent, taking over",
                    owner=newest.owner,
                    silent_seconds=round(newest.silent_seconds),
                )
            if await lock.try_take(number):
                return number
        elif time.monotonic() > deadline:
            assert newest is not None
            raise MigrationError(
                f"{newest.owner} has been migrating {lock.settings.database!r} and shows life "
                f"{newest.silent_seconds:.0f} s ago; wait for it and try again, or end it: its "
                f"lock is free {STALE_AFTER_SECONDS} s after its last sign of life"
            )
        # Jitter, so that many processes that start together do not look in step.
        await asyncio.sleep(random.uniform(0.1, 0.4))  # noqa: S311  # nothing secret


async def _beat_until_cancelled(lock: Lock, number: int) -> None:
    """A beat that fails is not the end: the holder looks whether it still holds at each step."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        try:
            await lock.beat(number)
        except Exception as error:
            log.warning("a sign of life of the migration lock was not stored", error=str(error))
