"""The process is killed, stopped, started twice, or has no room: what was acknowledged stays."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path

import httpx

from tests.live.clickhouse_fixture import COMMAND, ClickHouse

ROUNDS = 4
WRITERS = 3
ROWS = 500


class Writer(threading.Thread):
    """Inserts batches until told to stop, each again until it is acknowledged."""

    def __init__(self, server: ClickHouse, number: int) -> None:
        super().__init__()
        self.acknowledged = 0
        self.repeated = 0
        self.stopping = threading.Event()
        self._server = server
        self._number = number

    def run(self) -> None:
        auth = ("default", self._server.password)
        with httpx.Client(base_url=self._server.url, auth=auth, timeout=30) as http:
            while not self.stopping.is_set():
                self._insert(http, self.acknowledged)
                self.acknowledged += 1

    def _insert(self, http: httpx.Client, batch: int) -> None:
        body = "".join(f"{self._number}\t{batch}\t{row}\n" for row in range(ROWS))
        parameters = {
            "query": "INSERT INTO raw FORMAT TSV",
            "insert_deduplication_token": f"{self._number}-{batch}",
            "deduplicate_blocks_in_dependent_materialized_views": "1",
        }
        while True:
            try:
                if http.post("/", params=parameters, content=body).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
            self.repeated += 1


def ask(server: ClickHouse, sql: str, **parameters: str) -> str:
    answer = httpx.post(
        server.url, params=parameters, content=sql, auth=("default", server.password), timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.text.strip()


def make_tables(server: ClickHouse) -> None:
    window = "SETTINGS non_replicated_deduplication_window = 10000"
    ask(
        server,
        "CREATE TABLE raw (writer UInt8, batch UInt32, row UInt32) ENGINE MergeTree"
        f" ORDER BY (writer, batch, row) {window}",
    )
    ask(
        server,
        "CREATE TABLE sums (writer UInt8, n UInt64) ENGINE SummingMergeTree ORDER BY writer"
        f" {window}",
    )
    ask(
        server,
        "CREATE MATERIALIZED VIEW adder TO sums AS"
        " SELECT writer, count() AS n FROM raw GROUP BY writer",
    )


def test_every_acknowledged_insert_is_there_once_after_kills_at_random(
    own_clickhouse: ClickHouse,
) -> None:
    chance = random.Random(20260301)
    own_clickhouse.start()
    make_tables(own_clickhouse)
    writers = [Writer(own_clickhouse, number) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(ROUNDS):
            time.sleep(chance.uniform(0.4, 1.2))
            own_clickhouse.kill()
            own_clickhouse.start()
        time.sleep(0.5)
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
    expected = [f"{n}\t{w.acknowledged * ROWS}" for n, w in enumerate(writers)]
    assert sum(writer.repeated for writer in writers) >= ROUNDS
    by_writer = "GROUP BY writer ORDER BY writer"
    assert (
        ask(own_clickhouse, f"SELECT writer, count() FROM raw {by_writer}").split("\n") == expected
    )
    assert (
        ask(own_clickhouse, f"SELECT writer, sum(n) FROM sums {by_writer}").split("\n") == expected
    )
    distinct = "SELECT count() = uniqExact(writer, batch, row) FROM raw"
    assert ask(own_clickhouse, distinct) == "1"


def test_stop_finishes_what_runs_and_a_start_finds_it(own_clickhouse: ClickHouse) -> None:
    own_clickhouse.start()
    ask(own_clickhouse, "CREATE TABLE kept (a UInt64) ENGINE MergeTree ORDER BY a")
    slow = "INSERT INTO kept SELECT number + sleepEachRow(0.1) FROM numbers(15)"
    inserting = threading.Thread(target=ask, args=(own_clickhouse, slow))
    inserting.start()
    while ask(own_clickhouse, "SELECT count() FROM system.processes") == "1":
        time.sleep(0.02)
    own_clickhouse.stop()
    inserting.join()
    (own_clickhouse.state / "clickhouse" / "waiting" / "left over").write_text("half a body")
    own_clickhouse.start()
    assert ask(own_clickhouse, "SELECT count() FROM kept") == "15"


def test_second_process_on_the_same_folder_is_told(clickhouse: ClickHouse) -> None:
    second = subprocess.run(
        [*COMMAND, "--state", str(clickhouse.state), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    last = second.stderr.strip().splitlines()[-1]
    assert last.startswith("anabranch: ")
    assert str(clickhouse.state) in last
    assert "--state" in last
    assert "Traceback" not in second.stderr


def test_taken_port_is_named_with_what_to_do(clickhouse: ClickHouse, tmp_path: Path) -> None:
    second = subprocess.run(
        [*COMMAND, "--state", str(tmp_path), "--port", str(clickhouse.port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert str(clickhouse.port) in second.stderr
    assert "--port" in second.stderr


def test_queue_that_is_full_refuses_with_202(tmp_path: Path) -> None:
    server = ClickHouse(
        tmp_path,
        ANABRANCH_EMBEDDED__CLICKHOUSE_THREADS="1",
        ANABRANCH_EMBEDDED__CLICKHOUSE_QUEUE="1",
    )
    server.start()
    try:
        slow = "SELECT sleepEachRow(0.5) FROM numbers(4)"
        threads = [threading.Thread(target=ask, args=(server, slow)) for _ in range(2)]
        for thread in threads:
            thread.start()
        auth = ("default", server.password)
        while "waiting_queries 1.0" not in httpx.get(f"{server.url}/metrics").text:
            time.sleep(0.02)
        refused = httpx.post(server.url, content="SELECT 1", auth=auth)
        assert refused.headers["X-ClickHouse-Exception-Code"] == "202"
        assert httpx.get(f"{server.url}/ping").text == "Ok.\n"
        for thread in threads:
            thread.join()
        assert ask(server, "SELECT 1") == "1"
    finally:
        server.stop()
    assert os.listdir(tmp_path / "clickhouse" / "waiting") == []
