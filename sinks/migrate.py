"""Brings ClickHouse's tables up to date: each migration once, in order, from many processes.

A process that finds nothing to do takes no lock. One that does repeats its look at the journal once
it holds the lock, since another may have done the work meanwhile.
"""

# ruff: noqa: S608  # names come from settings with a pattern, values from files of ours

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

import structlog

from sinks.clickhouse import (
    UNKNOWN_DATABASE,
    UNKNOWN_TABLE,
    AsyncClient,
    ClickHouseRefused,
    connected,
    typed_errors,
)
from sinks.migration_files import FOLDER, Migration, MigrationError, load
from sinks.migration_journal import Entry, foundation, pending
from sinks.migration_lock import Lock, held
from sinks.settings import ClickHouseSettings

__all__ = ["Migration", "MigrationError", "migrate"]

# ClickHouse itself waits 180 s for all nodes of a cluster to run a statement.
STATEMENT_SECONDS = 300.0

log = structlog.get_logger()


async def migrate(
    settings: ClickHouseSettings, *, dry_run: bool = False, folder: Path = FOLDER
) -> list[Migration]:
    """What was run or, at a dry run, what would be. Raises MigrationError, ClickHouseUnavailable or
    ClickHouseRefused; whatever ran before that is in the journal, and the next call goes on there.
    """
    migrations = load(folder)
    patient = settings.model_copy(
        update={"timeout_seconds": max(settings.timeout_seconds, STATEMENT_SECONDS)}
    )
    async with connected(patient, database="") as client:
        waiting = pending(migrations, await _journal(client, patient), patient)
        if dry_run or not waiting:
            return waiting
        for statement in foundation(patient):
            await client.command(statement)
        return await _run_under_lock(client, patient, migrations)


async def _run_under_lock(
    client: AsyncClient, settings: ClickHouseSettings, migrations: tuple[Migration, ...]
) -> list[Migration]:
    owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    lock = Lock(client, settings, owner)
    async with held(lock) as number:
        waiting = pending(migrations, await _journal(client, settings), settings)
        for migration in waiting:
            await _note(client, settings, migration, owner, done=False)
            for statement in migration.statements(settings):
                if not await lock.holds(number):
                    raise MigrationError(
                        f"this process was silent for so long that another took over the lock, "
                        f"before {migration.name} was done; run it again"
                    )
                await client.command(statement)
            await _note(client, settings, migration, owner, done=True)
            log.info("migrated", migration=migration.name, database=settings.database)
    return waiting


async def _journal(client: AsyncClient, settings: ClickHouseSettings) -> list[Entry]:
    """Empty where there is no database or no journal yet."""
    try:
        with typed_errors(settings):
            answer = await client.query(
                "SELECT DISTINCT number, name, toString(checksum), done, cluster "
                f"FROM `{settings.database}`.migrations ORDER BY number, done"
            )
    except ClickHouseRefused as refused:
        if refused.code in {UNKNOWN_DATABASE, UNKNOWN_TABLE}:
            return []
        raise
    return [Entry(*row) for row in answer.result_rows]


async def _note(
    client: AsyncClient,
    settings: ClickHouseSettings,
    migration: Migration,
    owner: str,
    *,
    done: bool,
) -> None:
    await client.command(
        f"INSERT INTO `{settings.database}`.migrations (number, name, checksum, done, cluster, by) "
        f"VALUES ({migration.number}, '{migration.name}', '{migration.checksum}', "
        f"{str(done).lower()}, '{settings.cluster or ''}', '{owner}')"
    )
