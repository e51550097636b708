"""Inserts: every format, one block each, and a token that makes a repetition change nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import lz4.frame
import pytest
import zstandard

from tests.live.clickhouse_fixture import ClickHouse

ROWS = 150_000  # more than one of the engine's read blocks, fewer than max_insert_block_size
FORMATS = [
    "Parquet",
    "ArrowStream",
    "Arrow",
    "JSONEachRow",
    "RowBinary",
    "Native",
    "CSV",
    "TSV",
    "TSVWithNames",
    "Values",
    "Avro",
]
DEDUPLICATED = {
    "insert_deduplication_token": "batch-1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
}


class Tables:
    """A raw table, and a view that adds its rows up in a second one."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.database = f"inserts_{uuid.uuid4().hex[:8]}"

    async def make(self) -> None:
        window = "SETTINGS non_replicated_deduplication_window = 100"
        await self.run(f"CREATE DATABASE {self.database}", database="default")
        await self.run(
            f"CREATE TABLE raw (a UInt64, s String) ENGINE MergeTree ORDER BY a {window}"
        )
        await self.run(
            "CREATE TABLE sums (k UInt8, n UInt64, total UInt64) ENGINE SummingMergeTree"
            f" ORDER BY k {window}"
        )
        await self.run(
            "CREATE MATERIALIZED VIEW adder TO sums AS"
            " SELECT 1 AS k, count() AS n, sum(a) AS total FROM raw GROUP BY k"
        )

    async def run(self, sql: str, **parameters: str) -> bytes:
        answer = await self._http.post(
            "/", params={"database": self.database, **parameters}, content=sql
        )
        assert answer.status_code == 200, answer.text
        return answer.content

    async def insert(
        self, body: bytes | AsyncIterator[bytes], form: str, encoding: str = "", **extra: str
    ) -> httpx.Response:
        return await self._http.post(
            "/",
            params={
                "database": self.database,
                "query": f"INSERT INTO raw (a, s) FORMAT {form}",
                **extra,
            },
            content=body,
            headers={"Content-Encoding": encoding} if encoding else {},
        )

    async def counts(self) -> tuple[int, int, int, int]:
        """Rows and parts of the raw table, rows and their sum as the view has added them up."""
        found = await self.run(
            "SELECT (SELECT (count(), uniqExact(_part)) FROM raw) AS raw,"
            " (SELECT (sum(n), sum(total)) FROM sums) AS sums FORMAT JSONCompactEachRow"
        )
        (rows, parts), (added, total) = json.loads(found)[0], json.loads(found)[1]
        return int(rows), int(parts), int(added), int(total)


@pytest.fixture
async def tables(clickhouse: ClickHouse) -> AsyncIterator[Tables]:
    async with httpx.AsyncClient(
        base_url=clickhouse.url, auth=("default", clickhouse.password), timeout=60
    ) as http:
        tables = Tables(http)
        await tables.make()
        yield tables
        await tables.run(f"DROP DATABASE {tables.database} SYNC", database="default")


@pytest.mark.parametrize("form", FORMATS)
async def test_insert_is_one_block_and_its_token_makes_a_repetition_nothing(
    tables: Tables, form: str
) -> None:
    body = await tables.run(
        f"SELECT number AS a, toString(number) AS s FROM numbers({ROWS}) FORMAT {form}"
    )
    once = (ROWS, 1, ROWS, sum(range(ROWS)))
    for _ in range(3):
        answer = await tables.insert(body, form, **DEDUPLICATED)
        assert answer.status_code == 200, answer.text
        assert await tables.counts() == once
    other = {**DEDUPLICATED, "insert_deduplication_token": "batch-2"}
    await tables.insert(body, form, **other)
    assert (await tables.counts())[0] == 2 * ROWS


async def test_the_same_rows_without_a_token_are_deduplicated_by_their_content(
    tables: Tables,
) -> None:
    for _ in range(2):
        await tables.insert(b"1\tx\n", "TSV")
    assert (await tables.counts())[0] == 1


async def test_a_token_repeated_in_parallel_counts_once(tables: Tables) -> None:
    body = b"".join(b"%d\tx\n" % number for number in range(1000))
    answers = await asyncio.gather(*(tables.insert(body, "TSV", **DEDUPLICATED) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert await tables.counts() == (1000, 1, 1000, sum(range(1000)))


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("lz4", lz4.frame.compress),
        ("identity", bytes),
    ],
)
async def test_insert_body_may_be_compressed_and_come_in_pieces(
    tables: Tables, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    half = compress(b"".join(b"%d\tx\n" % number for number in range(1000)))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(half), 777):
            yield half[start : start + 777]

    answer = await tables.insert(pieces(), "TSV", encoding)
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "1001"
    assert (await tables.counts())[0] == 1000


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO raw VALUES (1, 'x'), (2, concat('y', 'z'))",
        "INSERT INTO raw (s, a) -- values\nSETTINGS max_threads = 1 VALUES ('x', 1), ('y', 2)",
        'INSERT INTO raw FORMAT JSONEachRow {"a":1,"s":"x"} {"a":2,"s":"y"}',
        "INSERT INTO TABLE raw FORMAT CSV\n1,x\n2,y\n",
        "INSERT INTO raw SELECT number + 1, toString(number) FROM numbers(2)",
        "INSERT INTO raw (a, s) SELECT x + 1, 'y' FROM input('x UInt8') FORMAT TSV\n0\n1\n",
        "WITH 2 AS n INSERT INTO raw FORMAT TSV\n1\tx\n2\ty\n",
        "WITH 2 AS n INSERT INTO raw SELECT number + 1, 'x' FROM numbers(n)",
    ],
)
async def test_insert_takes_its_data_wherever_they_stand(tables: Tables, sql: str) -> None:
    await tables.run(sql)
    assert await tables.counts() == (2, 1, 2, 3)


@pytest.mark.parametrize(
    ("body", "form", "code"),
    [
        pytest.param(b"1\tx\nwrong\ty\n", "TSV", 27, id="a row of text"),
        pytest.param(b"PAR1 no parquet", "Parquet", 0, id="not Parquet"),
        pytest.param(b'{"a": "x"}', "JSONEachRow", 0, id="a string for a number"),
        pytest.param(b"1\tx\n", "Nothing", 73, id="an unknown format"),
        pytest.param(b"\x01\x02\x03", "RowBinary", 0, id="half a row"),
    ],
)
async def test_data_that_do_not_fit_are_refused_whole(
    tables: Tables, body: bytes, form: str, code: int
) -> None:
    answer = await tables.insert(body, form, **DEDUPLICATED)
    assert answer.status_code >= 400
    assert int(answer.headers["X-ClickHouse-Exception-Code"]) == code or not code
    assert (await tables.counts())[0] == 0
    # The refused insert has not used its token up.
    await tables.insert(b"1\tx\n", "TSV", **DEDUPLICATED)
    assert (await tables.counts())[0] == 1


async def test_inserts_of_many_clients_all_arrive(tables: Tables) -> None:
    def body(client: int) -> Iterator[bytes]:
        return (b"%d\tx\n" % (client * 1000 + row) for row in range(1000))

    await asyncio.gather(*(tables.insert(b"".join(body(client)), "TSV") for client in range(30)))
    assert (await tables.counts())[0::2] == (30_000, 30_000)
