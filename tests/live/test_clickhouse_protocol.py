"""The HTTP protocol itself, as curl and other people's clients use it."""

from __future__ import annotations

import gzip
import json
import re
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.live.clickhouse_fixture import ClickHouse


@pytest.fixture
async def http(clickhouse: ClickHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=clickhouse.url, auth=("default", clickhouse.password), timeout=30
    ) as client:
        yield client


@pytest.fixture
async def table(http: httpx.AsyncClient) -> AsyncIterator[str]:
    name = f"t_{uuid.uuid4().hex[:8]}"
    await http.post("/", content=f"CREATE TABLE {name} (a UInt64) ENGINE = MergeTree ORDER BY a")
    yield name
    await http.post("/", content=f"DROP TABLE {name} SYNC")


@pytest.mark.parametrize("path", ["/", "/ping", "/replicas_status"])
def test_health_paths_need_no_password(clickhouse: ClickHouse, path: str) -> None:
    assert httpx.get(clickhouse.url + path).text == "Ok.\n"
    assert httpx.head(clickhouse.url + path).status_code == 200


def test_unknown_path_says_which_paths_there_are(clickhouse: ClickHouse) -> None:
    answer = httpx.get(f"{clickhouse.url}/nowhere")
    assert answer.status_code == 404
    assert "There is no handle /nowhere" in answer.text


@pytest.mark.parametrize("way", ["basic", "headers", "url"])
def test_a_password_is_taken_in_each_way(clickhouse: ClickHouse, way: str) -> None:
    def ask(password: str) -> httpx.Response:
        basic = httpx.BasicAuth("default", password) if way == "basic" else None
        headers = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": password}
        url = {"user": "default", "password": password}
        return httpx.post(
            clickhouse.url,
            content="SELECT 1",
            auth=basic,
            headers=headers if way == "headers" else {},
            params=url if way == "url" else {},
        )

    assert ask(clickhouse.password).text == "1\n"
    refused = ask("wrong")
    assert refused.status_code == 403
    assert refused.headers["X-ClickHouse-Exception-Code"] == "516"
    assert "wrong" not in refused.text


def test_no_password_is_asked_for_with_a_challenge(clickhouse: ClickHouse) -> None:
    answer = httpx.post(clickhouse.url, content="SELECT 1")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        pytest.param("SELEC 1", 400, 62, id="syntax"),
        pytest.param("SELECT 1 FROM", 400, 62, id="syntax at the end of a select"),
        pytest.param("INSERT INTO t (a FORMAT TSV\n1", 400, 62, id="syntax of an insert"),
        pytest.param("SELECT 'open", 400, 62, id="an open quote"),
        pytest.param("DROP TABLE IF EXISTS", 400, 62, id="half a statement"),
        pytest.param("", 400, 62, id="empty"),
        pytest.param("SELECT 1; SELECT 2", 400, 62, id="two statements"),
        pytest.param("SELECT * FROM missing", 404, 60, id="unknown table"),
        pytest.param("SELECT missing", 404, 47, id="unknown column"),
        pytest.param("SELECT 1 FORMAT Nothing", 404, 73, id="unknown format"),
        pytest.param("SELECT 1 SETTINGS nothing = 1", 404, 115, id="unknown setting"),
        pytest.param("SELECT toUInt8('x')", 400, 6, id="cannot parse"),
        pytest.param("SELECT throwIf(1)", 500, 395, id="thrown"),
        pytest.param("SELECT 1 INTO OUTFILE '/tmp/x'", 500, 358, id="outfile"),
        pytest.param("SELECT {a:UInt8}", 500, 456, id="parameter not given"),
        pytest.param("CREATE TABLE x (a Nothing2) ENGINE = Memory", 404, 50, id="unknown type"),
    ],
)
async def test_an_error_has_its_status_and_code(
    http: httpx.AsyncClient, sql: str, status: int, code: int
) -> None:
    answer = await http.post("/", content=sql)
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (
        status,
        str(code),
    )
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert not re.search(r"/dev/fd|FILE '|/\*", answer.text)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"no_such_setting": "1"}, 115),
        ({"max_threads": "many"}, 27),
        ({"a'b": "1"}, 115),
        ({"database": "missing"}, 81),
        ({"database": "x`; DROP"}, 81),
        ({"default_format": "TSV SETTINGS x=1"}, 73),
        ({"compress": "1"}, 48),
        ({"session_id": "s", "session_timeout": "4000"}, 374),
        ({"session_id": "never seen", "session_check": "1"}, 372),
        ({"wait_end_of_query": "maybe"}, 507),
        ({"query_id": "a\r\nX-Evil: 1"}, 507),
        ({"query_id": "\u20ac"}, 507),
        ({"buffer_size": "9" * 5000}, 507),
        ({"session_id": "s", "session_timeout": "9" * 5000}, 374),
    ],
)
async def test_a_wrong_parameter_is_named(
    http: httpx.AsyncClient, parameters: dict[str, str], code: int
) -> None:
    answer = await http.post("/", content="SELECT 1", params=parameters)
    assert answer.headers["X-ClickHouse-Exception-Code"] == str(code), answer.text


async def test_query_may_stand_in_url_body_or_both(http: httpx.AsyncClient) -> None:
    assert (await http.get("/", params={"query": "SELECT 1"})).text == "1\n"
    assert (await http.post("/", content="SELECT 2")).text == "2\n"
    assert (await http.post("/", params={"query": "SELECT"}, content="3")).text == "3\n"
    form = {"query": (None, "SELECT {a:String}"), "param_a": (None, "x")}
    assert (await http.post("/", files=form)).text == "x\n"


async def test_get_reads_and_never_writes(http: httpx.AsyncClient, table: str) -> None:
    answer = await http.get("/", params={"query": f"INSERT INTO {table} VALUES (1)"})
    assert answer.headers["X-ClickHouse-Exception-Code"] == "164"
    answer = await http.get("/", params={"query": f"DROP TABLE {table}"})
    assert answer.headers["X-ClickHouse-Exception-Code"] == "164"
    assert (await http.get("/", params={"query": f"SELECT count() FROM {table}"})).text == "0\n"
    assert (await http.post("/?readonly=1", content=f"DROP TABLE {table}")).status_code == 500


async def test_headers_tell_format_id_time_zone_and_summary(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/?query_id=mine&default_format=JSONCompact", content="SELECT number FROM numbers(3)"
    )
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.headers["X-ClickHouse-Format"] == "JSONCompact"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-ClickHouse-Timezone"]
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["read_rows"] == "3"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS a FORMAT JSONEachRow",
        "SELECT 1 AS a -- a comment\nFORMAT JSONEachRow SETTINGS max_threads = 1;",
        "SELECT a FROM (SELECT 1 AS a, ';' AS format) FORMAT JSONEachRow /* and one */",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x SETTINGS max_threads=1 FORMAT JSONEachRow",
        "(SELECT 1 AS a) FORMAT JSONEachRow",
    ],
)
async def test_format_clause_is_found_wherever_it_stands(http: httpx.AsyncClient, sql: str) -> None:
    assert (await http.post("/", content=sql)).text == '{"a":1}\n'


async def test_a_value_can_never_be_sql(http: httpx.AsyncClient) -> None:
    for hostile in ("'; DROP TABLE x; --", "{b:String}", "\\' OR 1=1", "$$", "/* */", "\x00"):
        escaped = hostile.replace("\\", "\\\\")
        answer = await http.post(
            "/",
            params={"param_a": escaped, "default_format": "RowBinary"},
            content="SELECT {a:String}",
        )
        assert answer.content[1:].decode() == hostile


async def test_a_query_may_hold_binary_strings(http: httpx.AsyncClient) -> None:
    sql = b"SELECT '\xff\x00\xa0' AS binary FORMAT RowBinary"
    assert (await http.post("/", content=sql)).content == b"\x03\xff\x00\xa0"


async def test_a_query_that_is_no_text_is_a_syntax_error(http: httpx.AsyncClient) -> None:
    answer = await http.post("/", content=b"SELECT 1\xff")
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "62")


async def test_a_failed_insert_select_runs_once(http: httpx.AsyncClient, table: str) -> None:
    sql = (
        f"INSERT INTO {table} SELECT number + throwIf(number = 5, 'no', toInt8(62)) FROM numbers(9)"
        " SETTINGS allow_custom_error_code_in_throwif = 1, max_block_size = 1,"
        " min_insert_block_size_rows = 1, min_insert_block_size_bytes = 1, max_threads = 1"
    )
    assert (await http.post("/", content=sql)).headers["X-ClickHouse-Exception-Code"] == "62"
    counts = await http.post("/", content=f"SELECT count() - uniqExact(a) FROM {table}")
    assert counts.text == "0\n"


async def test_data_cut_in_a_row_are_not_called_missing(
    http: httpx.AsyncClient, table: str
) -> None:
    answer = await http.post("/", content=f"INSERT INTO {table} VALUES (1), (2")
    assert answer.status_code >= 400
    assert "No data to insert" not in answer.text


async def test_a_dropped_default_database_comes_back_empty(http: httpx.AsyncClient) -> None:
    await http.post("/", content="DROP DATABASE default")
    answer = await http.post("/", content="SELECT currentDatabase()")
    assert answer.text == "default\n"


async def test_nothing_leaks_into_the_next_request(http: httpx.AsyncClient) -> None:
    await http.post("/", content="CREATE DATABASE IF NOT EXISTS leaky")
    state = "SELECT currentDatabase(), getSetting('max_block_size')"
    before = (await http.post("/", content=state)).text
    inside = await http.post("/?database=leaky&max_block_size=99", content=state)
    assert inside.text == "leaky\t99\n"
    await http.post("/", content="USE leaky")
    await http.post("/", content="SET max_block_size = 98")
    await http.post("/", content="CREATE TEMPORARY TABLE leaked (a UInt8)")
    for _ in range(8):
        assert (await http.post("/", content=state)).text == before
    assert (await http.post("/", content="SELECT * FROM leaked")).status_code == 404
    await http.post("/", content="DROP DATABASE leaky SYNC")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
async def test_answers_are_compressed_only_when_asked_to(
    http: httpx.AsyncClient, encoding: str
) -> None:
    accepts = {"Accept-Encoding": encoding}
    plain = await http.post("/", content="SELECT 1", headers=accepts)
    assert "Content-Encoding" not in plain.headers
    async with http.stream(
        "POST",
        "/?enable_http_compression=1",
        content="SELECT number FROM numbers(1000000)",
        headers=accepts,
    ) as answer:
        assert answer.headers["Content-Encoding"] == encoding
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert len(raw) < 5_000_000


async def test_a_damaged_body_is_told_and_nothing_is_inserted(
    http: httpx.AsyncClient, table: str
) -> None:
    body = gzip.compress(b"1\n2\n3\n" * 1000)
    query = {"query": f"INSERT INTO {table} FORMAT TSV"}
    for damaged in (body[:-10], b"not gzip", body[:40] + b"\x00" * 40 + body[80:]):
        answer = await http.post(
            "/", params=query, content=damaged, headers={"Content-Encoding": "gzip"}
        )
        assert answer.headers["X-ClickHouse-Exception-Code"] == "271"
    answer = await http.post("/", params=query, content=body, headers={"Content-Encoding": "sdch"})
    assert answer.headers["X-ClickHouse-Exception-Code"] == "89"
    assert (await http.post("/", content=f"SELECT count() FROM {table}")).text == "0\n"


async def test_metrics_count_queries_by_kind_and_outcome(http: httpx.AsyncClient) -> None:
    await http.post("/", content="SELECT 1")
    await http.post("/", content="SELECT missing")
    told = (await http.get("/metrics")).text
    counted = told.splitlines()
    lines = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in counted
        if line[0] != "#"
    }
    assert lines['anabranch_clickhouse_queries_total{kind="select",outcome="ok"}'] >= 1
    assert lines['anabranch_clickhouse_queries_total{kind="select",outcome="failed"}'] >= 1
    assert lines["anabranch_clickhouse_waiting_queries"] == 0
