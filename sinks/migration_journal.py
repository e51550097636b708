"""What the database says it has been through, held against what the files say.

The journal gets a row when a migration is begun and one when it is done, so that one which was cut
short is known, and is continued only from the text that began it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sinks.migration_files import Migration, MigrationError
from sinks.settings import ClickHouseSettings

# One replication group over all shards: every node of a cluster holds the whole journal.
EVERY_NODE = "ReplicatedMergeTree('/clickhouse/tables/{uuid}/all', '{shard}-{replica}')"


class Entry(NamedTuple):
    number: int
    name: str
    checksum: str
    done: bool
    cluster: str


def foundation(settings: ClickHouseSettings) -> list[str]:
    """The database and the journal: what has to be there before the first migration."""
    on_cluster = f" ON CLUSTER `{settings.cluster}`" if settings.cluster else ""
    engine = EVERY_NODE if settings.cluster else "MergeTree"
    return [
        f"CREATE DATABASE IF NOT EXISTS `{settings.database}`{on_cluster}",
        f"""CREATE TABLE IF NOT EXISTS `{settings.database}`.migrations{on_cluster}
(
    number UInt32 COMMENT 'Number of the migration, from 1',
    name String COMMENT 'Name of its file, without the ending',
    checksum FixedString(64) COMMENT 'SHA-256 of its text, in hex',
    done Bool COMMENT 'false: begun; true: every statement has run',
    cluster String COMMENT 'Cluster that it was run for; empty on one node',
    at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When, UTC, in ms',
    by String COMMENT 'Host and process that ran it'
)
ENGINE = {engine}
ORDER BY (number, done, at)
COMMENT 'Which migrations this database has been through: a row when begun, one when done'""",
    ]


def pending(
    migrations: Sequence[Migration], journal: Sequence[Entry], settings: ClickHouseSettings
) -> list[Migration]:
    """What has still to run, or why nothing may."""
    _refuse_a_newer_database(migrations, journal)
    _refuse_another_layout(journal, settings)
    files = {migration.number: migration for migration in migrations}
    for entry in journal:
        _refuse_an_edited_file(files[entry.number], entry)
    done = {entry.number for entry in journal if entry.done}
    waiting = [migration for migration in migrations if migration.number not in done]
    if waiting and done and waiting[0].number < max(done):
        raise MigrationError(
            f"the database has been through {max(done):04} and not through {waiting[0].name}: "
            "its table `migrations` has lost rows; put them back from a backup"
        )
    return waiting


def _refuse_a_newer_database(migrations: Sequence[Migration], journal: Sequence[Entry]) -> None:
    newest = max(journal, default=None)
    if newest is not None and newest.number > len(migrations):
        raise MigrationError(
            f"the database is newer than this program: it has been through {newest.name}, "
            f"and this program knows {len(migrations)} migrations; run the newer program"
        )


def _refuse_another_layout(journal: Sequence[Entry], settings: ClickHouseSettings) -> None:
    def told(cluster: str) -> str:
        return f"the cluster {cluster!r}" if cluster else "one node"

    cluster = settings.cluster or ""
    for entry in journal:
        if entry.cluster != cluster:
            raise MigrationError(
                f"the tables in {settings.database!r} were made for {told(entry.cluster)}, and "
                f"the setting `cluster` asks for {told(cluster)}; set it back, or move to a new "
                "database"
            )


def _refuse_an_edited_file(migration: Migration, entry: Entry) -> None:
    if migration.checksum == entry.checksum:
        return
    remedy = (
        "put the old text back and make the change a new migration"
        if entry.done
        else "it was cut short: put the old text back, let it finish, and make the change a new one"
    )
    raise MigrationError(
        f"{migration.name}.sql is not the text that the database has been through: "
        f"its checksum is {migration.checksum}, the database has {entry.checksum}; {remedy}"
    )
