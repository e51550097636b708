"""Queries while they run: sessions, kills, limits, streams, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
import uuid
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest

from tests.live.clickhouse_fixture import ClickHouse

FOREVER = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


@pytest.fixture
async def http(clickhouse: ClickHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=clickhouse.url, auth=("default", clickhouse.password), timeout=30
    ) as client:
        yield client


async def running(http: httpx.AsyncClient, text: str) -> bool:
    """Whether the engine runs a query that carries this text."""
    found = await http.post(
        "/",
        params={"param_text": text},
        content="SELECT count() FROM system.processes"
        " WHERE position(query, {text:String}) > 0 AND query_id != queryID()",
    )
    return found.text != "0\n"


async def until(http: httpx.AsyncClient, text: str, *, runs: bool, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while await running(http, text) != runs:  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.02)


async def test_session_belongs_to_one_query_at_a_time(http: httpx.AsyncClient) -> None:
    session = {"session_id": uuid.uuid4().hex}
    mark = f"long_{uuid.uuid4().hex}"
    first = asyncio.create_task(
        http.post(
            "/", params=session, content=f"SELECT sleepEachRow(0.3), '{mark}' FROM numbers(5)"
        )
    )
    await until(http, mark, runs=True)
    second = await http.post("/", params=session, content="SELECT 1")
    assert second.headers["X-ClickHouse-Exception-Code"] == "373"
    assert (await first).status_code == 200
    assert (await http.post("/", params=session, content="SELECT 1")).text == "1\n"


async def test_session_ends_after_its_timeout(http: httpx.AsyncClient) -> None:
    session = {"session_id": uuid.uuid4().hex, "session_timeout": "1"}
    await http.post("/", params=session, content="CREATE TEMPORARY TABLE brief (a UInt8)")
    assert (await http.post("/", params=session, content="SELECT * FROM brief")).text == ""
    await asyncio.sleep(1.3)
    gone = await http.post("/", params={**session, "session_check": "1"}, content="SELECT 1")
    assert gone.headers["X-ClickHouse-Exception-Code"] == "372"


async def test_kill_query_stops_it_by_the_clients_own_id(http: httpx.AsyncClient) -> None:
    query_id = uuid.uuid4().hex
    victim = asyncio.create_task(
        http.post("/", params={"query_id": query_id}, content=f"{FOREVER} -- {query_id}")
    )
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        killed = httpx.Response(500)
        while query_id not in killed.text:
            killed = await http.post("/", content=f"KILL QUERY WHERE query_id = '{query_id}' SYNC")
            await asyncio.sleep(0.02)
    assert killed.text.startswith(f"finished\t{query_id}\tdefault\t")
    assert (await victim).headers["X-ClickHouse-Exception-Code"] == "394"


async def test_a_select_ends_when_its_client_goes_away(http: httpx.AsyncClient) -> None:
    mark = uuid.uuid4().hex
    sql = f"SELECT count() FROM numbers(1000000000000) WHERE toString(number) = '{mark}'"
    leaving = asyncio.create_task(http.post("/", content=sql))
    await until(http, mark, runs=True)
    leaving.cancel()
    await until(http, mark, runs=False)


async def test_a_query_over_its_time_ends_with_408(http: httpx.AsyncClient) -> None:
    answer = await http.post("/?max_execution_time=0.3", content=FOREVER)
    assert answer.status_code == 408
    assert answer.headers["X-ClickHouse-Exception-Code"] == "159"


async def test_a_query_over_its_memory_fails_alone(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/?max_memory_usage=50000000", content="SELECT length(groupArray(number)) FROM numbers(1e8)"
    )
    assert answer.status_code == 500
    assert answer.headers["X-ClickHouse-Exception-Code"] == "241"
    assert (await http.post("/", content="SELECT 1")).text == "1\n"


async def test_a_long_result_streams_in_bounded_memory(
    http: httpx.AsyncClient, clickhouse: ClickHouse
) -> None:
    """800 MB of numbers; what the process holds may grow by far less."""
    process = psutil.Process(clickhouse.pid)
    before = process.memory_info().rss
    total = peak = 0
    async with http.stream(
        "POST", "/?default_format=RowBinary", content="SELECT number FROM numbers(100000000)"
    ) as answer:
        async for chunk in answer.aiter_bytes(1 << 20):
            total += len(chunk)
            if total % (64 << 20) < (1 << 20):
                peak = max(peak, process.memory_info().rss)
    assert total == 800_000_000
    assert peak - before < 300_000_000


async def test_a_result_waits_for_its_end_when_asked_to(http: httpx.AsyncClient) -> None:
    sql = "SELECT throwIf(number = 3000000) FROM numbers(4000000)"
    answer = await http.post("/?wait_end_of_query=1&max_block_size=10000", content=sql)
    assert answer.status_code == 500
    whole = await http.post("/?wait_end_of_query=1", content="SELECT number FROM numbers(3000000)")
    assert json.loads(whole.headers["X-ClickHouse-Summary"])["result_rows"] == "3000000"
    assert whole.text.count("\n") == 3_000_000


async def test_an_error_in_a_stream_is_marked_and_the_answer_is_cut(
    http: httpx.AsyncClient,
) -> None:
    sql = "SELECT throwIf(number = 3000000, 'too far') FROM numbers(4000000) FORMAT JSONEachRow"
    headers, seen = httpx.Headers(), b""

    async def read() -> None:
        nonlocal headers, seen
        async with http.stream("POST", "/?max_block_size=10000", content=sql) as answer:
            assert answer.status_code == 200
            headers = answer.headers
            async for chunk in answer.aiter_bytes():
                seen = seen[-1000:] + chunk

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    told = re.search(
        rb"\r\n__exception__\r\n(\w+)\r\n(Code: 395.*too far.*\n)(\d+) \1\r\n__exception__\r\n$",
        seen,
        re.DOTALL,
    )
    assert told is not None
    assert told[1].decode() == headers["X-ClickHouse-Exception-Tag"]
    assert int(told[3]) == len(told[2])


async def test_many_parallel_queries_all_have_their_own_answer(http: httpx.AsyncClient) -> None:
    async def one(number: int) -> str:
        return (await http.post("/", content=f"SELECT {number}, sleep(0.01)")).text

    answers = await asyncio.gather(*(one(number) for number in range(80)))
    assert answers == [f"{number}\t0\n" for number in range(80)]


def test_a_client_that_leaves_in_its_body_inserts_nothing(clickhouse: ClickHouse) -> None:
    client = httpx.Client(auth=("default", clickhouse.password), base_url=clickhouse.url)
    with client:
        client.post("/", content="CREATE TABLE left_early (a UInt64) ENGINE = Memory")
        address = ("127.0.0.1", clickhouse.port)
        path = (
            f"/?user=default&password={clickhouse.password}&query=INSERT+INTO+left_early+FORMAT+TSV"
        )
        with socket.create_connection(address) as raw:
            raw.sendall(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n1\n2\n".encode()
            )
        time.sleep(0.2)
        assert client.post("/", content="SELECT count() FROM left_early").text == "0\n"
        client.post("/", content="DROP TABLE left_early")
