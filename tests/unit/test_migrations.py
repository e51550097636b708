"""The migrations as files: what they may say, and that they say what the schemas say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.commands.migrate import script
from sinks.migration_files import Migration, MigrationError, load
from sinks.migration_journal import Entry, pending
from sinks.settings import ClickHouseSettings

SCHEMAS = Path(__file__).parents[2] / "schemas"
ONE_NODE = ClickHouseSettings(database="demo")
CLUSTER = ClickHouseSettings(database="demo", cluster="main", deduplication_window=5000)
TABLES = {
    "exposures": "exposure",
    "turn_metrics": "turn_metric",
    "invites": "invite",
    "outcomes": "outcome",
    "audit_log": "audit",
}
TEXT = "CREATE TABLE IF NOT EXISTS ${database}.a (b Int32) ENGINE = ${merge_tree} ORDER BY b;\n"
COLUMN = re.compile(r"^    (?P<name>\w+) (?P<type>.+?) (DEFAULT .+ )?COMMENT '(?P<comment>[^']+)'")
COORDINATES = {
    "_topic": "LowCardinality(String)",
    "_partition": "Int32",
    "_offset": "Int64",
    "inserted_at": "DateTime64(3, 'UTC')",
}


def columns(table: str) -> dict[str, tuple[str, str]]:
    """Name to type and comment, as the first statement of the table's migration has them."""
    (migration,) = (m for m in load() if m.name.partition("_")[2] == table)
    lines = migration.statements(ONE_NODE)[0].split("(\n", 1)[1].split("\n)\n")[0].splitlines()
    found = {}
    for line in lines:
        if line.startswith("    INDEX "):
            continue
        match = COLUMN.match(line)
        assert match is not None, f"{table}: no comment: {line}"
        found[match["name"]] = (match["type"], match["comment"])
    return found


def plain(column_type: str) -> str:
    return column_type.replace("LowCardinality(String)", "String")


def column_type(avro: Any) -> str:
    """What a field of a schema rests in, LowCardinality apart."""
    if isinstance(avro, list):
        return f"Nullable({column_type(avro[1])})"
    if isinstance(avro, dict) and avro.get("logicalType") == "timestamp-millis":
        return "DateTime64(3, 'UTC')"
    if isinstance(avro, dict) and avro["type"] == "array":
        inner = (f"{f['name']} {column_type(f['type'])}" for f in avro["items"]["fields"])
        return f"Array(Tuple({', '.join(inner)}))"
    return {"string": "String", "int": "Int32", "long": "Int64", "double": "Float64"}[avro]


@pytest.mark.parametrize(("table", "schema"), TABLES.items())
def test_raw_table_has_the_fields_of_its_schema_in_their_order_and_types(
    table: str, schema: str
) -> None:
    fields = json.loads((SCHEMAS / f"{schema}.avsc").read_text())["fields"]
    expected = {field["name"]: column_type(field["type"]) for field in fields}
    found = {name: plain(type_) for name, (type_, _) in columns(table).items()}
    assert list(found.items()) == list(
        {**expected, **{name: plain(type_) for name, type_ in COORDINATES.items()}}.items()
    )


@pytest.mark.parametrize(("table", "schema"), TABLES.items())
def test_raw_table_comments_name_the_unit_of_every_field_that_has_one(
    table: str, schema: str
) -> None:
    commented = columns(table)
    for field in json.loads((SCHEMAS / f"{schema}.avsc").read_text())["fields"]:
        if "unit" in field:
            unit = field["unit"].split()[0]
            assert re.search(rf"\b{unit}\b", commented[field["name"]][1]), field["name"]


def created(migration: Migration, settings: ClickHouseSettings) -> list[str]:
    return [s for s in migration.statements(settings) if s.startswith("CREATE")]


@pytest.mark.parametrize("settings", [ONE_NODE, CLUSTER], ids=["one node", "cluster"])
def test_every_table_has_a_comment(settings: ClickHouseSettings) -> None:
    for migration in load():
        for statement in created(migration, settings):
            assert re.search(r"\nCOMMENT '[^']+'$", statement), statement


def test_one_node_gets_plain_tables() -> None:
    text = script(list(load()), ONE_NODE)
    assert "ON CLUSTER" not in text
    assert "Replicated" not in text
    assert "Distributed" not in text
    assert "$" not in text
    for migration in load():
        for statement in migration.statements(ONE_NODE):
            if statement.startswith("CREATE TABLE"):
                assert "\nSETTINGS non_replicated_deduplication_window = 10000" in statement


def test_a_cluster_gets_replicated_local_tables_and_a_distributed_one_over_each() -> None:
    for migration in load():
        statements = [s for s in created(migration, CLUSTER) if "MATERIALIZED VIEW" not in s]
        for local, distributed in zip(statements[::2], statements[1::2], strict=True):
            found = re.search(r"`demo`\.(\w+)_local ON CLUSTER `main`", local)
            assert found is not None, local
            assert re.search(
                r"ENGINE = Replicated(|Aggregating|Summing)MergeTree"
                r"\('/clickhouse/tables/\{uuid\}/\{shard\}', '\{replica\}'\)",
                local,
            )
            assert "SETTINGS replicated_deduplication_window = 5000," in local
            assert f"Distributed(`main`, `demo`, {found[1]}_local, cityHash64(" in distributed


def test_a_view_on_a_cluster_reads_and_feeds_the_local_tables() -> None:
    views = [
        statement
        for migration in load()
        for statement in migration.statements(CLUSTER)
        if "MATERIALIZED VIEW" in statement
    ]
    assert len(views) == 3
    for view in views:
        assert " ON CLUSTER `main`\nTO `demo`." in view
        assert len(re.findall(r"(?:TO|FROM) `demo`\.\w+_local\b", view)) == 2


def test_checksum_is_of_the_text_and_not_of_the_settings() -> None:
    assert load() == load()
    changed = Migration(1, "0001_a", TEXT + "-- a word more\n")
    assert changed.checksum != Migration(1, "0001_a", TEXT).checksum


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param({"1_a": TEXT}, "1_a.sql: a migration is named by four digits", id="name"),
        pytest.param({"0001_a": TEXT, "0003_c": TEXT}, "number 0002 is missing", id="gap"),
        pytest.param({"0001_a": TEXT, "0001_b": TEXT}, "two migrations have the number", id="two"),
        pytest.param(
            {"0001_a": TEXT.replace("merge_tree", "engine")}, "{engine}; there are", id="$"
        ),
        pytest.param(
            {"0001_a": TEXT.replace("{merge_tree}", " 5")}, "starts no placeholder", id="$5"
        ),
        pytest.param(
            {"0001_a": TEXT.replace("IF NOT EXISTS ", "")}, "not safe to run twice", id="re"
        ),
        pytest.param({"0001_a": TEXT.replace(";", "")}, "no semicolon", id="semicolon"),
        pytest.param({"0001_a": "-- nothing\n"}, "no statement", id="empty"),
    ],
)
def test_load_refuses_what_could_not_be_run_safely(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.sql").write_text(text)
    with pytest.raises(MigrationError, match=re.escape(said)):
        load(tmp_path)


def entry(number: int, *, done: bool = True, cluster: str = "") -> Entry:
    name = f"{number:04}_a"
    return Entry(number, name, Migration(number, name, TEXT).checksum, done, cluster)


MIGRATIONS = [Migration(number, f"{number:04}_a", TEXT) for number in (1, 2, 3)]


def test_pending_is_everything_that_is_not_done() -> None:
    assert pending(MIGRATIONS, [], ONE_NODE) == MIGRATIONS
    journal = [entry(1, done=False), entry(1), entry(2, done=False)]
    assert pending(MIGRATIONS, journal, ONE_NODE) == MIGRATIONS[1:]


@pytest.mark.parametrize(
    ("journal", "settings", "said"),
    [
        pytest.param([entry(4)], ONE_NODE, "newer than this program", id="newer"),
        pytest.param([entry(1), entry(3)], ONE_NODE, "not through 0002_a", id="gap"),
        pytest.param([entry(1)], CLUSTER, "were made for one node", id="a cluster now"),
        pytest.param([entry(1, cluster="a")], ONE_NODE, "the cluster 'a'", id="one node now"),
    ],
)
def test_pending_refuses_a_database_that_does_not_fit(
    journal: list[Entry], settings: ClickHouseSettings, said: str
) -> None:
    with pytest.raises(MigrationError, match=said):
        pending(MIGRATIONS, journal, settings)
