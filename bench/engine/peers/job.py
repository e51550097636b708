"""What the Python peers share: what they are told, the decoder, the sums, and the inserts.

They are told by variables, and they tell by lines: `reading` when they have their partitions,
`stored` when the last insert was acknowledged. In between they are measured.

The inserts are the cheapest of those tried for rows that are Python objects, client and server
together: Native from columns (2.5 and 1.6 us an event), before Parquet (2.2 and 2.0), Arrow (2.5
and 2.1) and JSONEachRow by orjson (9 and 4.5). Automatic garbage collection is made rare, since
it would walk through the rows held, again and again: a third of the time of decoding.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import clickhouse_connect
from fastavro import parse_schema, schemaless_reader

SCHEMA = Path(__file__).parents[3] / "schemas" / "turn_metric.avsc"
# Half of it in an insert costs ClickHouse 1.4 us an event more, for it merges more parts.
ROWS = 100_000
UNDER_WAY = 2  # inserts at once, while the next batch is decoded
MINUTE_MS = 60_000
_WIRE_BYTES = 5
_PLACE = ("_topic", "_partition", "_offset")
_WINDOW = (
    *("window", "experiment", "variation", "locale"),
    *("n", "turn_ms_sum", "turn_ms_sum_sq", "output_tokens_sum"),
)

Row = dict[str, Any]


class Job(NamedTuple):
    bootstrap: str
    topic: str
    group: str
    events: int
    url: str
    user: str
    password: str
    database: str

    @classmethod
    def told(cls) -> Job:
        names = (name for name in cls._fields if name != "events")
        values = {name: os.environ[f"BENCH_{name.upper()}"] for name in names}
        return cls(events=int(os.environ["BENCH_EVENTS"]), **values)


def reading() -> None:
    _say("reading")


def stored() -> None:
    """Never returns: what the process has used is looked at before it is ended from outside."""
    _say("stored")
    sys.stdin.read()
    sys.exit()


def _say(what: str) -> None:
    # Faust makes log lines of what goes to sys.stdout, and leaves lines unfinished.
    os.write(1, f"\n{what}\n".encode())


def decoder() -> Callable[[bytes], Row]:
    """Times stay integers: datetime objects would cost a microsecond each."""
    schema = json.loads(SCHEMA.read_text())
    for field in schema["fields"]:
        if isinstance(field["type"], dict):
            field["type"].pop("logicalType", None)
    parsed = parse_schema(schema)

    def decode(value: bytes) -> Row:
        row = schemaless_reader(BytesIO(value[_WIRE_BYTES:]), parsed, None)
        assert isinstance(row, dict)
        return row

    return decode


class Gathered:
    """Events as columns, and their sums, until the next insert."""

    def __init__(self, topic: str, fields: Sequence[str]) -> None:
        self.events = 0
        self.sums: dict[tuple[int, str, str, str], list[int]] = {}
        self._topic = topic
        self._columns: dict[str, list[Any]] = {name: [] for name in fields}
        self._partitions: list[int] = []
        self._offsets: list[int] = []

    def add(self, rows: Sequence[Row], partitions: Sequence[int], offsets: Sequence[int]) -> None:
        for name, column in self._columns.items():
            column += [row[name] for row in rows]
        self._partitions += partitions
        self._offsets += offsets
        self.events += len(rows)
        self._sum_up(rows)

    def _sum_up(self, rows: Sequence[Row]) -> None:
        sums = self.sums
        for row in rows:
            minute, locale, turn_ms = row["ts"] // MINUTE_MS, row["locale"], row["turn_ms"]
            for exposure in row["exposures"]:
                group = (minute, exposure["experiment"], exposure["variation"], locale)
                found = sums.get(group)
                if found is None:
                    found = sums[group] = [0, 0, 0, 0]
                found[0] += 1
                found[1] += turn_ms
                found[2] += turn_ms * turn_ms
                found[3] += row["output_tokens"]

    @property
    def columns(self) -> list[Sequence[Any]]:
        topics = [self._topic] * self.events
        return [*self._columns.values(), topics, self._partitions, self._offsets]

    @property
    def windows(self) -> list[list[Any]]:
        return [
            [minute * MINUTE_MS // 1000, *names, *sums]
            for (minute, *names), sums in self.sums.items()
        ]


class Store:
    """Inserts may come from several threads."""

    def __init__(self, job: Job) -> None:
        address = urlsplit(job.url)
        self._client = clickhouse_connect.get_client(
            host=address.hostname or "",
            port=address.port or 0,
            username=job.user,
            password=job.password,
            database=job.database,
            autogenerate_session_id=False,  # a session takes one insert at a time
            compress=False,  # on one machine it would only cost
        )
        self._topic = job.topic
        self._fields = [field["name"] for field in json.loads(SCHEMA.read_text())["fields"]]
        # Asked for once, not before every insert.
        self._raw_types = self._types("turn_metrics", [*self._fields, *_PLACE])
        self._window_types = self._types("turn_windows", _WINDOW)
        gc.collect()
        gc.freeze()
        gc.set_threshold(200_000, 50, 100)

    def _types(self, table: str, columns: Sequence[str]) -> list[Any]:
        return list(self._client.create_insert_context(table, columns).column_types)

    def empty(self) -> Gathered:
        return Gathered(self._topic, self._fields)

    def insert(self, gathered: Gathered) -> None:
        self._client.insert(
            "turn_metrics",
            gathered.columns,
            [*self._fields, *_PLACE],
            column_types=self._raw_types,
            column_oriented=True,
        )
        self._client.insert(
            "turn_windows", gathered.windows, _WINDOW, column_types=self._window_types
        )
