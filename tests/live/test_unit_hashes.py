"""The columns of migration 0015, in parts from before it and in those of both that are merged."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from sinks.clickhouse import AsyncClient, connect
from sinks.migrate import migrate
from sinks.migration_files import FOLDER
from tests.live.clickhouse_fixture import ClickHouse

TABLES = ("unit_exposures", "unit_metrics")
EXPOSED = (
    "INSERT INTO unit_exposures (experiment, unit, first, last_ts, variations, n) VALUES "
    "('tone', '{unit}', ('2026-05-04 10:00:00.000', 1, '{seen[0]}', 'en', []), "
    "'2026-05-04 10:00:00.000', {seen}, 1)"
)
TURNS = (
    "INSERT INTO unit_metrics (day, experiment, version, variation, unit, n, turn_ms_sum) "
    "VALUES ('2026-05-04', 'tone', 1, 'warm', '{unit}', 1, 5)"
)
WRONG = """
SELECT
    (SELECT count() FROM unit_metrics WHERE unit_hash != cityHash64(unit)),
    countIf(unit_hash != cityHash64(unit)),
    countIf(lowest_variation != arrayMin(arrayMap(v -> cityHash64(v), variations))),
    countIf(highest_variation != arrayMax(arrayMap(v -> cityHash64(v), variations)))
FROM unit_exposures
"""


@pytest_asyncio.fixture
async def client(clickhouse: ClickHouse, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """With a unit of two parts in each table: from before the columns, and from after."""
    settings = clickhouse.settings.model_copy(update={"database": f"h_{uuid.uuid4().hex[:8]}"})
    before = shutil.copytree(FOLDER, tmp_path / "migrations")
    (before / "0015_unit_hashes.sql").unlink()
    await migrate(settings, folder=before)
    client = await connect(settings)
    for table in TABLES:
        await client.command(f"SYSTEM STOP MERGES {table}")
    await put(client, old=["warm"], both=["warm"])
    await migrate(settings)
    await put(client, new=["cold"], both=["control"])
    yield client
    await client.command(f"DROP DATABASE {settings.database} SYNC")
    await client.close()


async def put(client: AsyncClient, **units: list[str]) -> None:
    for unit, seen in units.items():
        await client.command(EXPOSED.format(unit=unit, seen=seen))
        await client.command(TURNS.format(unit=unit))


async def saw_several(client: AsyncClient) -> dict[str, bool]:
    found = await client.query(
        "SELECT any(unit), min(lowest_variation) != max(highest_variation) "
        "FROM unit_exposures GROUP BY unit_hash"
    )
    return {unit: bool(several) for unit, several in found.result_rows}


async def test_units_are_told_apart_by_hash_in_old_parts_in_new_ones_and_in_merged_ones(
    client: AsyncClient,
) -> None:
    expected = {"old": False, "new": False, "both": True}
    assert await saw_several(client) == expected
    assert (await client.query(WRONG)).result_rows == [(0, 0, 0, 0)]
    for table in TABLES:
        await client.command(f"SYSTEM START MERGES {table}")
        await client.command(f"OPTIMIZE TABLE {table} FINAL")
    merged = await client.query(
        "SELECT count(), (SELECT count() FROM unit_metrics) FROM unit_exposures"
    )
    assert merged.result_rows == [(3, 3)]
    assert await saw_several(client) == expected
    assert (await client.query(WRONG)).result_rows == [(0, 0, 0, 0)]
