"""clickhouse-connect, polars and ibis meet the embedded ClickHouse as they would a server."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Generator, Iterator
from datetime import UTC, date, datetime
from typing import Any

import clickhouse_connect
import httpx
import ibis
import pandas
import polars
import pyarrow
import pytest
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from tests.live.clickhouse_fixture import ClickHouse


def connected(clickhouse: ClickHouse, **options: Any) -> Client:
    return clickhouse_connect.get_client(
        host="127.0.0.1",
        port=clickhouse.port,
        username="default",
        password=clickhouse.password,
        **options,
    )


@pytest.fixture
def client(clickhouse: ClickHouse) -> Iterator[Client]:
    with connected(clickhouse) as client:
        client.command("CREATE DATABASE IF NOT EXISTS clients")
        client.database = "clients"
        yield client
        client.command("DROP DATABASE clients SYNC")


@pytest.fixture
async def async_client(clickhouse: ClickHouse) -> AsyncIterator[AsyncClient]:
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1",
        port=clickhouse.port,
        username="default",
        password=clickhouse.password,
        autogenerate_session_id=False,
    )
    async with client:
        yield client


def test_client_gets_back_what_it_inserted_of_every_kind(client: Client) -> None:
    client.command(
        "CREATE TABLE kinds (n Int64, u UInt8, f Float64, s String, o Nullable(String), d Date,"
        " t DateTime64(3, 'UTC'), a Array(UInt16), m Map(String, Int32), l LowCardinality(String),"
        " p Tuple(x Int8, y String)) ENGINE = MergeTree ORDER BY n"
    )
    at = datetime(2026, 3, 1, 12, 30, 15, 250000, tzinfo=UTC)
    rows = [
        [1, 255, 0.5, "é\t'\\\n", None, date(2026, 3, 1), at, [1, 2], {"a": -1}, "x", (1, "y")],
        [-2, 0, -1e300, "", "set", date(1970, 1, 1), at, [], {}, "", (-1, "")],
    ]
    summary = client.insert("kinds", rows, database="clients")
    assert summary.written_rows == 2
    found = client.query("SELECT * FROM kinds ORDER BY n DESC").result_rows
    assert [row[:6] for row in found] == [tuple(row[:6]) for row in rows]
    assert found[0][6].astimezone(UTC) == at
    assert found[0][7:10] == ([1, 2], {"a": -1}, "x")


def test_client_inserts_columns_frames_and_arrow_tables(client: Client) -> None:
    client.command("CREATE TABLE shapes (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    client.insert("shapes", [[1, 2], ["x", "y"]], column_names=["a", "b"], column_oriented=True)
    client.insert_df("shapes", pandas.DataFrame({"a": [3], "b": ["z"]}))
    table = pyarrow.table({"a": pyarrow.array([4, 5], pyarrow.uint32()), "b": ["v", "w"]})
    client.insert_arrow("shapes", table)
    assert client.query_df("SELECT * FROM shapes ORDER BY a")["b"].tolist() == list("xyzvw")
    arrow = client.query_arrow("SELECT a FROM shapes ORDER BY a", use_strings=True)
    assert arrow.column("a").to_pylist() == [1, 2, 3, 4, 5]
    assert client.query("SELECT a FROM shapes WHERE a < 3 ORDER BY a").result_columns == [[1, 2]]


@pytest.mark.parametrize("stream", ["rows", "columns", "frames", "arrow"])
def test_client_streams_a_result_in_blocks(client: Client, stream: str) -> None:
    sql = "SELECT number, toString(number) AS s FROM numbers(300000)"
    total = 0
    if stream == "rows":
        with client.query_row_block_stream(sql) as blocks:
            total = sum(sum(row[0] for row in block) for block in blocks)
    elif stream == "columns":
        with client.query_column_block_stream(sql) as blocks:
            total = sum(sum(block[0]) for block in blocks)
    elif stream == "frames":
        with client.query_df_stream(sql) as blocks:
            total = sum(int(block["number"].sum()) for block in blocks)
    else:
        with client.query_arrow_stream(sql) as blocks:
            total = sum(sum(block.column("number").to_pylist()) for block in blocks)
    assert total == sum(range(300_000))


def test_client_binds_parameters_on_either_side(client: Client) -> None:
    tricky = "it's \\ a {tab}\tand\na line"
    server = client.query(
        "SELECT {s:String}, {n:Int32} + 1, {a:Array(String)}, {t:Identifier} FROM system.one",
        parameters={"s": tricky, "n": -5, "a": ["x'y", "z\\"], "t": "dummy"},
    )
    assert server.result_rows == [(tricky, -4, ["x'y", "z\\"], 0)]
    here = client.query("SELECT %(s)s, %(n)s", parameters={"s": "it's", "n": 7})
    assert here.result_rows == [("it's", 7)]


def test_client_may_send_its_parameters_as_a_form(clickhouse: ClickHouse) -> None:
    with connected(clickhouse, form_encode_query_params=True) as client:
        found = client.query("SELECT length({s:String})", parameters={"s": "ü" * 50_000})
        assert found.result_rows == [(100_000,)]


def test_client_sends_a_table_along_with_a_query(client: Client) -> None:
    table = ExternalData(
        file_name="people", data=b"1,ann\n2,bob\n", fmt="CSV", structure="id UInt8, name String"
    )
    found = client.query("SELECT name FROM people WHERE id = 2", external_data=table)
    assert found.result_rows == [("bob",)]


def test_client_settings_hold_for_their_query_alone(client: Client) -> None:
    setting = "SELECT getSetting('max_block_size')"
    assert client.command(setting, settings={"max_block_size": 1234}) == 1234
    assert client.command(setting) != 1234


def test_session_keeps_its_temporary_table_and_settings(clickhouse: ClickHouse) -> None:
    with connected(clickhouse, session_id="kept") as client, connected(clickhouse) as other:
        client.command("CREATE TEMPORARY TABLE mine (a UInt8)")
        client.insert("mine", [[1], [2]])
        client.command("SET max_block_size = 777")
        assert client.query("SELECT sum(a) FROM mine").result_rows == [(3,)]
        setting = "SELECT getSetting('max_block_size')"
        assert client.command(setting, settings={"max_block_size": "888"}) == 888
        assert client.command(setting) == 777
        with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
            other.query("SELECT * FROM mine")


def test_client_commands_tell_results_from_summaries(client: Client) -> None:
    assert client.command("SELECT 1") == 1
    assert client.command("SELECT 'x' WHERE 0") == ""
    assert "1" in str(client.command("EXISTS DATABASE clients"))
    client.command("CREATE TABLE made (a UInt8) ENGINE = Memory")
    assert client.command("SHOW TABLES") == "made"
    assert client.command("SHOW TABLES FROM clients LIKE 'none'") == ""


def test_client_raw_calls_carry_any_format(client: Client) -> None:
    client.command("CREATE TABLE raw (a UInt8, b String) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("raw", ["a", "b"], "1,x\n2,y\n", fmt="CSV")
    client.raw_insert("raw", None, b'{"a":3,"b":"z"}', fmt="JSONEachRow")
    assert client.raw_query("SELECT * FROM raw ORDER BY a", fmt="TSV") == b"1\tx\n2\ty\n3\tz\n"
    with client.raw_stream("SELECT count() AS n FROM raw", fmt="JSONEachRow") as stream:
        assert stream.read() == b'{"n":3}\n'


def test_client_errors_carry_code_and_name(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT * FROM missing")
    assert caught.value.code == 60
    assert caught.value.name == "UNKNOWN_TABLE"
    with pytest.raises(DatabaseError, match="SYNTAX_ERROR"):
        client.command("SELEC 1")


def test_client_sees_an_error_in_the_middle_of_a_stream(client: Client) -> None:
    sql = "SELECT throwIf(number = 3000000, 'too far') FROM numbers(5000000)"
    with (
        pytest.raises(StreamFailureError, match="too far"),
        client.query_row_block_stream(sql, settings={"max_block_size": 10000}) as blocks,
    ):
        for _ in blocks:
            pass


def test_client_finds_its_query_id_in_the_summary(client: Client) -> None:
    found = client.query(
        "SELECT number FROM numbers(5)", transport_settings={}, settings={"query_id": "mine-1"}
    )
    assert found.query_id == "mine-1"
    assert int(found.summary["read_rows"]) == 5


@pytest.mark.parametrize("compression", [False, "lz4", "zstd", "gzip"])
def test_client_compresses_both_ways(clickhouse: ClickHouse, compression: str | bool) -> None:
    with connected(clickhouse, compress=compression) as client:
        client.command("CREATE OR REPLACE TABLE squeezed (a UInt32, s String) ENGINE = Memory")
        rows = [[number, "text " * (number % 7)] for number in range(20_000)]
        client.insert("squeezed", rows)
        found = client.query("SELECT * FROM squeezed ORDER BY a").result_rows
        assert found == [tuple(row) for row in rows]
        client.command("DROP TABLE squeezed")


def test_client_inserts_what_is_larger_than_memory_is_given_for_bodies(client: Client) -> None:
    """About 600 MB, where bodies may hold 512 MB before they go to the disk."""
    client.command("CREATE TABLE large (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
    line = b"7\t" + b"x" * 1021 + b"\n"
    source = io.BytesIO(line * 1000)

    def body() -> Generator[bytes]:
        for _ in range(600):
            yield source.getvalue()

    client.raw_insert("large", None, body(), fmt="TSV")
    assert client.query("SELECT count(), min(length(s)) FROM large").result_rows == [
        (600_000, 1021)
    ]


async def test_async_clients_run_in_parallel(async_client: AsyncClient) -> None:
    async def one(number: int) -> int:
        found = await async_client.query("SELECT {n:UInt32}", parameters={"n": number})
        return int(found.result_rows[0][0])

    assert await asyncio.gather(*(one(number) for number in range(60))) == list(range(60))


async def test_async_client_inserts_and_streams(async_client: AsyncClient) -> None:
    await async_client.command("CREATE OR REPLACE TABLE streamed (a UInt32) ENGINE = Memory")
    await async_client.insert("streamed", [[number] for number in range(100_000)])
    total = 0
    async with await async_client.query_row_block_stream("SELECT a FROM streamed") as blocks:
        async for block in blocks:
            total += sum(row[0] for row in block)
    assert total == sum(range(100_000))
    await async_client.command("DROP TABLE streamed")


def test_polars_and_pandas_read_over_plain_http(clickhouse: ClickHouse) -> None:
    query = "SELECT+number+AS+n,n*n+AS+square+FROM+numbers(1000)"
    address = f"{clickhouse.url}/?user=default&password={clickhouse.password}&query={query}"
    # A file's address to polars is one it may ask for ranges of, which no ClickHouse serves.
    frame = polars.read_parquet(httpx.get(f"{address}+FORMAT+Parquet").content)
    assert frame["square"].sum() == sum(number * number for number in range(1000))
    rows = pandas.read_csv(f"{address}&default_format=CSVWithNames")
    assert rows["square"].sum() == frame["square"].sum()


def test_ibis_reads_writes_and_lists(clickhouse: ClickHouse) -> None:
    backend = ibis.clickhouse.connect(
        host="127.0.0.1", port=clickhouse.port, user="default", password=clickhouse.password
    )
    backend.create_database("with_ibis", force=True)
    made = pyarrow.table({"unit": ["a", "b", "a"], "value": [1.0, 2.0, 3.0]})
    backend.create_table("facts", made, database="with_ibis", overwrite=True)
    assert backend.list_tables(database="with_ibis") == ["facts"]
    facts = backend.table("facts", database="with_ibis")
    sums = facts.group_by("unit").aggregate(total=facts.value.sum()).order_by("unit")
    assert sums.to_pyarrow()["total"].to_pylist() == [4.0, 2.0]
    assert facts.schema().names == ("unit", "value")
    # Not drop_database: ibis 12 with sqlglot 30 leaves the name out of its statement.
    backend.raw_sql("DROP DATABASE with_ibis SYNC")
    backend.disconnect()
