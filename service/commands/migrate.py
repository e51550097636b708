"""`anabranch migrate`: bring ClickHouse's tables up to date."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service.errors import CommandError
from service.settings import DEFAULT_STATE, load_settings
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.migrate import Migration, MigrationError
from sinks.migrate import migrate as bring_up_to_date
from sinks.migration_journal import foundation
from sinks.settings import ClickHouseSettings


def migrate(
    *,
    dry_run: Annotated[bool, Parameter(help="Print the SQL and change nothing.")] = False,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Run the migrations that the database has not been through, once and in order.

    Safe to run from many processes at once: one of them works, the others wait for it.
    """
    settings = load_settings(state=state).clickhouse
    try:
        migrations = asyncio.run(bring_up_to_date(settings, dry_run=dry_run))
    except (MigrationError, ClickHouseUnavailable, ClickHouseRefused) as error:
        raise CommandError(str(error)) from error
    if dry_run:
        print(script(migrations, settings))
    elif migrations:
        print("\n".join(f"ran {migration.name}" for migration in migrations))
    else:
        print(f"nothing to do: {settings.database} is up to date")


def script(migrations: list[Migration], settings: ClickHouseSettings) -> str:
    """The SQL as it would be sent, ready for a file."""
    if not migrations:
        return f"-- nothing to do: {settings.database} is up to date"
    parts = [f"{statement};" for statement in foundation(settings)]
    for migration in migrations:
        parts.append(f"-- {migration.name}, SHA-256 {migration.checksum}")
        parts += [f"{statement};" for statement in migration.statements(settings)]
    return "\n\n".join(parts)
