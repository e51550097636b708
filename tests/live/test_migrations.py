"""Migrations on the real engine, each test in a database of its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sinks.clickhouse import AsyncClient, ClickHouseRefused, ClickHouseUnavailable, connect
from sinks.migrate import MigrationError, migrate
from sinks.migration_files import FOLDER, load
from sinks.migration_journal import foundation
from sinks.migration_lock import Lock, held
from sinks.settings import ClickHouseSettings
from tests.live.clickhouse_fixture import ClickHouse

NAMES = [migration.name for migration in load()]
VIEWS = {"metric_hours_view", "metric_days_view", "batch_totals_view"}
TABLES = {
    *("exposures", "turn_metrics", "invites", "outcomes"),
    *("metric_windows", "metric_hours", "metric_days"),
    *("unit_metrics", "unit_exposures", "invite_units", "audit_log", "key_uses"),
    "reports",
    *("batches", "batch_totals", "restatements", "dead_letters", "dead_letter_marks"),
    *VIEWS,
}
KEPT_FOR_GOOD = {"audit_log", "key_uses"}
FIRST = """CREATE TABLE IF NOT EXISTS ${database}.first (a Int32)
ENGINE = ${merge_tree} ORDER BY a;
"""
SECOND = FIRST.replace(".first", ".second")


@pytest.fixture
def settings(clickhouse: ClickHouse) -> ClickHouseSettings:
    return clickhouse.settings.model_copy(update={"database": f"m_{uuid.uuid4().hex[:8]}"})


@pytest_asyncio.fixture
async def client(settings: ClickHouseSettings) -> AsyncIterator[AsyncClient]:
    client = await connect(settings, database="")
    yield client
    await client.command(f"DROP DATABASE IF EXISTS {settings.database} SYNC")
    await client.close()


async def rows(client: AsyncClient, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in (await client.query(query)).result_rows]


async def tables(client: AsyncClient, settings: ClickHouseSettings) -> set[str]:
    found = await rows(client, f"SHOW TABLES FROM {settings.database}")
    return {name for (name,) in found if not name.startswith("migration")}


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.sql").write_text(text)
    return path


async def test_migrate_makes_the_raw_tables_and_runs_nothing_the_second_time(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    assert [migration.name for migration in await migrate(settings)] == NAMES
    assert await tables(client, settings) == TABLES
    assert await migrate(settings) == []
    journal = await rows(
        client, f"SELECT name, done FROM {settings.database}.migrations ORDER BY number, done"
    )
    assert journal == [(name, done) for name in NAMES for done in (False, True)]


async def test_migrate_gives_every_table_a_deduplication_window_and_a_time_to_live(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    await migrate(settings.model_copy(update={"deduplication_window": 4321}))
    statements = await rows(
        client,
        "SELECT name, create_table_query FROM system.tables WHERE name NOT LIKE 'migration%' "
        f"AND engine LIKE '%MergeTree' AND database = '{settings.database}'",
    )
    assert len(statements) == len(TABLES) - len(VIEWS)
    for name, statement in statements:
        assert "non_replicated_deduplication_window = 4321" in statement
        ends = re.search(r"TTL .+ \+ toIntervalDay\(400\)", statement) is not None
        assert ends == (name not in KEPT_FOR_GOOD), statement


async def test_an_insert_repeated_under_its_token_changes_nothing(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    await migrate(settings)
    for _ in range(2):
        await client.command(
            f"INSERT INTO {settings.database}.outcomes (event_id, ts, unit, values) "
            "SETTINGS insert_deduplication_token = 'outcomes.v1:0:e:0-0' "
            "VALUES ('e1', now64(3), 'u1', [('cost', 1.5)])"
        )
    answer = await rows(client, f"SELECT values FROM {settings.database}.outcomes")
    assert answer == [([{"name": "cost", "value": 1.5}],)]


async def test_eight_processes_at_once_run_every_migration_once(
    clickhouse: ClickHouse, settings: ClickHouseSettings, client: AsyncClient, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "deploy.main", "migrate", "--state", str(tmp_path)]
    environment = {
        **os.environ,
        "ANABRANCH_CLICKHOUSE__URL": clickhouse.url,
        "ANABRANCH_CLICKHOUSE__PASSWORD": clickhouse.password,
        "ANABRANCH_CLICKHOUSE__DATABASE": settings.database,
    }
    processes = [
        await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(8)
    ]
    answers = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, answers
    printed = b"".join(out for out, _ in answers).decode()
    said = sorted(re.findall(r"^ran (\S+)$", printed, re.MULTILINE))
    assert said == NAMES
    journal = await rows(client, f"SELECT count() FROM {settings.database}.migrations")
    assert journal == [(2 * len(NAMES),)]


async def test_dry_run_prints_sql_that_can_be_run_and_changes_nothing(
    clickhouse: ClickHouse, settings: ClickHouseSettings, client: AsyncClient, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "deploy.main", "migrate", "--dry-run", "--state", str(tmp_path)],
        env={
            **os.environ,
            "ANABRANCH_CLICKHOUSE__URL": clickhouse.url,
            "ANABRANCH_CLICKHOUSE__PASSWORD": clickhouse.password,
            "ANABRANCH_CLICKHOUSE__DATABASE": settings.database,
        },
        stdout=subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert await rows(client, f"SHOW DATABASES LIKE '{settings.database}'") == []

    for statement in printed.decode().strip().removesuffix(";").split(";\n"):
        await client.command(statement)
    made = await tables(client, settings)
    assert made == TABLES


async def test_migrate_refuses_an_edited_old_migration_and_names_both_checksums(
    settings: ClickHouseSettings, client: AsyncClient, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "sql", **{"0001_first": FIRST})
    (before,) = await migrate(settings, folder=folder)
    folder_of(folder, **{"0001_first": FIRST.replace("Int32", "Int64"), "0002_second": SECOND})
    after, _ = load(folder)
    with pytest.raises(MigrationError, match=r"0001_first\.sql .*make the change a new") as error:
        await migrate(settings, folder=folder)
    assert before.checksum in str(error.value)
    assert after.checksum in str(error.value)
    assert await tables(client, settings) == {"first"}


async def test_migrate_goes_on_where_a_crash_between_two_statements_left_it(
    settings: ClickHouseSettings, client: AsyncClient, tmp_path: Path
) -> None:
    broken = FIRST + SECOND.replace("Int32", "NoSuchType")
    folder = folder_of(tmp_path / "sql", **{"0001_both": broken})
    with pytest.raises(ClickHouseRefused, match="NoSuchType"):
        await migrate(settings, folder=folder)
    assert await tables(client, settings) == {"first"}

    # Its text may not change now: what ran of it would silently stay as it was.
    folder_of(folder, **{"0001_both": FIRST + SECOND})
    with pytest.raises(MigrationError, match="it was cut short"):
        await migrate(settings, folder=folder)

    await client.command(f"TRUNCATE TABLE {settings.database}.migrations")
    (migration,) = load(folder)
    await client.command(
        f"INSERT INTO {settings.database}.migrations (number, name, checksum, done) "
        f"VALUES (1, '0001_both', '{migration.checksum}', false)"
    )
    assert await migrate(settings, folder=folder) == [migration]
    assert await tables(client, settings) == {"first", "second"}


async def test_migrate_refuses_a_database_newer_than_itself(
    settings: ClickHouseSettings, client: AsyncClient, tmp_path: Path
) -> None:
    newer = folder_of(tmp_path / "new", **{"0001_first": FIRST, "0002_second": SECOND})
    older = folder_of(tmp_path / "old", **{"0001_first": FIRST})
    await migrate(settings, folder=newer)
    with pytest.raises(MigrationError, match=r"newer than this program: .*0002_second"):
        await migrate(settings, folder=older)


async def test_a_lock_without_signs_of_life_is_taken_over_by_one_of_many(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    for statement in foundation(settings):
        await client.command(statement)
    dead = Lock(client, settings, "host/1/dead")
    assert await dead.try_take(1)
    await client.command(f"TRUNCATE TABLE {settings.database}.migration_lock_000001")
    await client.command(
        f"INSERT INTO {settings.database}.migration_lock_000001 (owner, at) "
        "VALUES ('host/1/dead', now64(3) - 3600)"
    )
    ran = await asyncio.gather(*(migrate(settings) for _ in range(3)))
    assert sorted(len(migrations) for migrations in ran) == [0, 0, len(NAMES)]
    assert not await dead.holds(1)


async def test_a_lock_is_waited_for_and_its_holder_named_when_the_wait_is_over(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    for statement in foundation(settings):
        await client.command(statement)
    async with held(Lock(client, settings, "host/1/busy")):
        with pytest.raises(MigrationError, match="host/1/busy"):
            async with held(Lock(client, settings, "host/2/late"), wait_seconds=0):
                pass
    async with held(Lock(client, settings, "host/2/late"), wait_seconds=0) as number:
        assert number == 2
    locks = await rows(client, f"SHOW TABLES FROM {settings.database} LIKE 'migration_lock%'")
    assert locks == [("migration_lock_000002",)]


async def test_a_lock_number_that_was_removed_cannot_be_taken_again(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    for statement in foundation(settings):
        await client.command(statement)
    for owner in ("host/1/a", "host/2/b"):
        async with held(Lock(client, settings, owner)):
            pass
    late = Lock(client, settings, "host/3/late")
    assert not await late.try_take(1)


async def test_a_holder_that_was_replaced_finds_out_and_lets_go_quietly(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    for statement in foundation(settings):
        await client.command(statement)
    stopped, next_one = (Lock(client, settings, owner) for owner in ("host/1/a", "host/2/b"))
    async with held(stopped) as number:
        assert await stopped.holds(number)
        assert await next_one.try_take(number + 1)
        await next_one.remove_older(number + 1)
        assert not await stopped.holds(number)
    assert await next_one.holds(number + 1)


async def test_migrate_says_where_nothing_answered(clickhouse: ClickHouse) -> None:
    nowhere = clickhouse.settings.model_copy(update={"url": "http://127.0.0.1:1"})
    with pytest.raises(ClickHouseUnavailable, match=r"http://127\.0\.0\.1:1 does not answer"):
        await migrate(nowhere)


async def test_every_statement_for_a_cluster_is_sql_to_the_engine(
    settings: ClickHouseSettings, client: AsyncClient
) -> None:
    cluster = settings.model_copy(update={"cluster": "main"})
    statements = foundation(cluster) + [
        statement for migration in load(FOLDER) for statement in migration.statements(cluster)
    ]
    statements.append(Lock(client, cluster, "host/1/x").create_statement(1))
    for statement in statements:
        (formatted,) = (await rows(client, f"SELECT formatQuery($sql${statement}$sql$)"))[0]
        assert "ON CLUSTER main" in formatted
        assert re.search(
            r"CREATE DATABASE|MATERIALIZED VIEW|ENGINE = (Replicated|Distributed)"
            r"|ALTER TABLE \S+_local\b|ALTER TABLE \S+ ON CLUSTER main\s+\(ADD COLUMN",
            formatted,
        )
