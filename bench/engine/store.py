"""The embedded ClickHouse of the bench: a fresh database for every run, and the check after it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from bench.engine.events import NUMBERS, Group, Sums, Truth
from deploy.ports import choose_port
from sinks.migrate import migrate
from sinks.migration_files import load
from sinks.settings import ClickHouseSettings

PASSWORD = "bench"
WINDOWS = """
CREATE TABLE `{database}`.turn_windows
(
    window DateTime('UTC'),
    experiment LowCardinality(String),
    variation LowCardinality(String),
    locale LowCardinality(String),
    n UInt64,
    turn_ms_sum UInt64,
    turn_ms_sum_sq UInt64,
    output_tokens_sum UInt64
)
ENGINE = SummingMergeTree ORDER BY (window, experiment, variation, locale)
"""
_OF_RAW_TABLE = re.compile(r"(CREATE|ALTER) TABLE [^(]*\.turn_metrics\b")
_OF_PEERS = """
SELECT experiment, variation, locale, sum(n), sum(turn_ms_sum), sum(turn_ms_sum_sq),
    sum(output_tokens_sum), min(window), max(window)
FROM turn_windows GROUP BY ALL
"""
_OF_OURS = """
SELECT experiment, variation, locale, sumIf(n, metric = 'turn_ms'), sumIf(sum, metric = 'turn_ms'),
    sumIf(sum_sq, metric = 'turn_ms'), sumIf(sum, metric = 'output_tokens'),
    min(window), max(window)
FROM metric_windows GROUP BY ALL
"""
_OF_RAW = """
SELECT exposures[1].experiment, exposures[1].variation, locale, count(), sum(turn_ms),
    sum(turn_ms * toInt64(turn_ms)), sum(output_tokens), min(toStartOfMinute(ts)),
    max(toStartOfMinute(ts))
FROM turn_metrics GROUP BY ALL
"""


class WrongResult(Exception):  # noqa: N818  # what it is
    """What a contestant stored is not what was in Kafka."""


class Store:
    def __init__(self, settings: ClickHouseSettings, process: subprocess.Popen[bytes]) -> None:
        self.settings = settings
        self.process = process
        self._client = httpx.Client(
            base_url=settings.url,
            headers={"X-ClickHouse-User": settings.username, "X-ClickHouse-Key": PASSWORD},
            timeout=120,
        )

    def rows(self, sql: str, database: str = "default") -> list[list[Any]]:
        answer = self._client.post(
            "/", params={"database": database, "default_format": "JSONCompact"}, content=sql
        )
        if answer.is_error:
            raise SystemExit(f"ClickHouse refused: {answer.text}\n{sql}")
        return list(answer.json()["data"]) if answer.content else []

    @contextmanager
    def database(self, name: str, *, ours: bool = False) -> Iterator[ClickHouseSettings]:
        """All tables for ours; the raw one as migrated, and sums, for a peer. Gone afterwards."""
        settings = self.settings.model_copy(update={"database": name})
        self.rows(f"CREATE DATABASE `{name}`")
        try:
            if ours:
                asyncio.run(migrate(settings))
            else:
                for migration in load():
                    for statement in migration.statements(settings):
                        if _OF_RAW_TABLE.search(statement):
                            self.rows(statement)
                self.rows(WINDOWS.format(database=name))
            yield settings
        finally:
            self.rows(f"DROP DATABASE `{name}` SYNC")

    def has_all(self, database: str, truth: Truth, *, unit_sums: bool) -> bool:
        """Whether our worker has stored every event, in every table. Cheap until it has."""
        tables = {
            "batches": "sum(rows)",
            "turn_metrics": "count()",
            "metric_windows": "sumIf(n, metric = 'turn_ms')",
        }
        if unit_sums:
            tables["unit_metrics"] = "sum(n)"
        return all(
            self.rows(f"SELECT toUInt64({counted}) FROM {table}", database) == [[truth.events]]
            for table, counted in tables.items()
        )

    def check_unit_sums(self, database: str, truth: Truth) -> None:
        sums = ", ".join(f"sum({name}_sum)" for name in NUMBERS)
        (found,) = self.rows(f"SELECT sum(n), {sums} FROM unit_metrics", database)
        expected = [truth.events, *(truth.numbers[name] for name in NUMBERS)]
        if [int(value) for value in found] != expected:
            raise WrongResult(f"sums by unit: {found}, expected {expected}")

    def check(self, database: str, truth: Truth, *, ours: bool = False) -> None:
        """Raises WrongResult unless every event is stored once and every sum is the truth's."""
        sums = ", ".join(f"sum({name})" for name in NUMBERS)
        ((rows, ids, offsets, *numbers),) = self.rows(
            f"SELECT count(), uniqExact(event_id), uniqExact(_partition, _offset), {sums}"
            " FROM turn_metrics",
            database,
        )
        expected = [truth.events] * 3 + [truth.numbers[name] for name in NUMBERS]
        found = [int(value) for value in (rows, ids, offsets, *numbers)]
        if found != expected:
            raise WrongResult(f"raw rows: {found}, expected {expected}")
        minute = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(truth.minute_ms / 1000))
        for sql in (_OF_RAW, _OF_OURS if ours else _OF_PEERS):
            groups = {}
            for *names, n, total, squares, tokens, first, last in self.rows(sql, database):
                groups[Group(*names)] = Sums(int(n), int(total), int(squares), int(tokens))
                if (first, last) != (minute, minute):
                    raise WrongResult(f"{names} lies from {first} to {last}, not in {minute}")
            if groups != truth.groups:
                raise WrongResult(f"sums: {groups}, expected {truth.groups}")


@contextmanager
def own_clickhouse() -> Iterator[Store]:
    port = choose_port("127.0.0.1", 0, flag="--port")
    settings = ClickHouseSettings(url=f"http://127.0.0.1:{port}", password=SecretStr(PASSWORD))
    command = [sys.executable, "-m", "deploy.main", "clickhouse", "--port", str(port), "--state"]
    with tempfile.TemporaryDirectory(prefix="anabranch-bench-") as state:
        output = Path(state) / "clickhouse.out"
        with output.open("wb") as out:
            server = subprocess.Popen(
                [*command, state],
                env={
                    **os.environ,
                    "ANABRANCH_CLICKHOUSE__PASSWORD": PASSWORD,
                    "ANABRANCH_LOG_LEVEL": "warning",
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            _await(settings.url, server, output)
            yield Store(settings, server)
        finally:
            server.terminate()
            server.wait(60)


def _await(url: str, server: subprocess.Popen[bytes], output: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/ping").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit(f"ClickHouse did not start:\n{output.read_text()}")
