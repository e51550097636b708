"""An engine that was killed after it noted a token and before the rows had their name."""

from __future__ import annotations

import shutil

import httpx

from tests.live.clickhouse_fixture import ClickHouse


def _asked(server: ClickHouse, statement: str, **parameters: str) -> str:
    auth = ("default", server.password)
    answer = httpx.post(server.url, params=parameters, content=statement, auth=auth, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.text.strip()


def _insert(server: ClickHouse, token: str) -> None:
    statement = "INSERT INTO raw SELECT number FROM numbers(10)"
    _asked(server, statement, insert_deduplication_token=token)


def test_repeated_insert_is_stored_when_the_engine_was_killed_in_it(
    own_clickhouse: ClickHouse,
) -> None:
    server = own_clickhouse
    server.start()
    _asked(
        server,
        "CREATE TABLE raw (a UInt64) ENGINE MergeTree ORDER BY a "
        "SETTINGS non_replicated_deduplication_window = 1000",
    )
    _insert(server, "one")
    _insert(server, "two")
    server.kill()
    # What the engine leaves when it dies between its two steps: strace shows their order.
    (part,) = server.state.glob("**/store/*/*/all_2_2_0")
    shutil.rmtree(part)

    server.start()
    assert _asked(server, "SELECT count() FROM raw") == "10"
    _insert(server, "one")
    assert _asked(server, "SELECT count() FROM raw") == "10"
    _insert(server, "two")
    _insert(server, "two")
    assert _asked(server, "SELECT count() FROM raw") == "20"


def test_tokens_are_known_after_a_kill_when_their_parts_were_merged(
    own_clickhouse: ClickHouse,
) -> None:
    server = own_clickhouse
    server.start()
    _asked(
        server,
        "CREATE TABLE raw (a UInt64) ENGINE MergeTree ORDER BY a "
        "SETTINGS non_replicated_deduplication_window = 1000, old_parts_lifetime = 1",
    )
    for token in ("one", "two", "three"):
        _insert(server, token)
    _asked(server, "OPTIMIZE TABLE raw FINAL")
    server.kill()

    server.start()
    for token in ("one", "two", "three"):
        _insert(server, token)
    assert _asked(server, "SELECT count() FROM raw") == "30"
