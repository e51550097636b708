"""What verify asks ClickHouse with, within limits, and where it puts what it finds."""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from sinks.clickhouse import AsyncClient
from sinks.verify_comparison import Odd, Seen, Subject, seen
from sinks.verify_sources import Frontier, second, text

LISTED = 100
"""Differences that are told one by one; all are counted."""

LOOKS_AGAIN_SECONDS = (0.0, 0.5, 1.0)
"""Waits before each look: the tables of a query are not looked at in the very same moment."""


class Limits(NamedTuple):
    memory_bytes: int = 1_000_000_000
    """Of one query. One that groups more than fits goes on on disk."""
    threads: int = 2
    query_seconds: float = 600.0
    unit_rows: int | None = None
    """Sums by unit are left out where more raw rows than this would have to be read for them."""

    @property
    def keys_at_once(self) -> int:
        """Of units with all that is known of them, on all sides."""
        return self.memory_bytes // 4_000

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "max_memory_usage": self.memory_bytes,
            "max_bytes_before_external_group_by": self.memory_bytes // 2,
            "max_bytes_before_external_sort": self.memory_bytes // 2,
            "max_threads": self.threads,
            "max_execution_time": self.query_seconds,
            "join_use_nulls": 0,
            "distributed_product_mode": "global",  # on a cluster, a set is made once for all
        }


Progress = Callable[[str, float], None]
"""Told the table and how much of it is done, from 0 to 1."""


class Difference(NamedTuple):
    """One place where the tables are not what they should be."""

    table: str
    key: dict[str, str]
    column: str
    expected: str
    found: str

    def __str__(self) -> str:
        key = ", ".join(f"{name} {value or repr('')}" for name, value in self.key.items())
        return f"{self.table} ({key}): {self.column} is {self.found}, expected {self.expected}"


@dataclass(slots=True)
class Findings:
    differences: list[Difference] = field(default_factory=list)
    """The first ones."""
    total: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    """Keys by table, ranges of `batches`, rows of raw tables."""
    moving: int = 0
    """Keys that changed while they were looked at, and were held to bounds."""
    in_flight: Counter[str] = field(default_factory=Counter)
    """Raw rows by table of batches that are not finished."""

    def add(self, difference: Difference) -> None:
        self.total += 1
        if len(self.differences) < LISTED:
            self.differences.append(difference)

    def add_odd(
        self, subject: Subject, found: Seen, names: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """A difference for each wrong column of the keys that are listed, one for each of the rest.

        `names` are the table's own for measures that go by another."""
        self.moving += found.moving
        for odd in found.examples:
            for difference in _told(subject, odd, names):
                self.add(difference)
        self.total += found.odd - len(found.examples)


def _told(subject: Subject, odd: Odd, names: Mapping[str, str]) -> list[Difference]:
    key = dict(zip(subject.keys, odd.keys, strict=True))
    if not all(odd.sides):
        is_stored, _ = odd.sides
        n = odd.found[0] if is_stored else odd.expected[0]
        here, away = f"a row with n = {n}", "no row"
        return [
            Difference(subject.table, key, "the row", away, here)
            if is_stored
            else Difference(subject.table, key, "the row", here, away)
        ]
    told = []
    measures = zip(subject.measures, odd.wrong, odd.found, odd.settled, odd.expected, strict=True)
    for measure, is_wrong, found, settled, expected in measures:
        if is_wrong:
            column = names.get(measure.name, measure.name)
            said = expected if settled == expected else f"{settled} to {expected}"
            told.append(Difference(subject.table, key, column, said, found))
    return told


class Questions:
    def __init__(
        self,
        client: AsyncClient,
        limits: Limits,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self.limits = limits
        self._settings = limits.settings
        self.sleep = sleep

    async def rows(self, statement: str, **settings: Any) -> list[Any]:
        answer = await self._client.query(statement, settings={**self._settings, **settings})
        return list(answer.result_rows)

    async def affords(self, topic: str, start: datetime) -> bool:
        """Whether sums by unit of what happened from then on may be looked at."""
        if self.limits.unit_rows is None:
            return True
        (rows,) = await self.row(
            f"SELECT sum(rows) FROM batches WHERE topic = {text(topic)} "
            f"AND max_ts >= {second(start)}"
        )
        return int(rows) <= self.limits.unit_rows

    async def row(self, statement: str, **settings: Any) -> Any:
        (row,) = await self.rows(statement, **settings)
        return row

    async def frontier(self) -> Frontier:
        """What is finished now: all that is asked later holds at least that much."""
        rows = await self.rows(
            "SELECT topic, partition, max(last) FROM batches "
            "WHERE (topic, partition, epoch) IN (SELECT topic, partition, argMax(epoch, applied_at)"
            " FROM batches GROUP BY topic, partition) GROUP BY topic, partition"
        )
        frontier: dict[str, dict[int, int]] = {}
        for topic, partition, last in rows:
            frontier.setdefault(topic, {})[partition] = last
        return frontier

    async def looked_at_again(self, comparison_at: Callable[[Frontier], str]) -> Seen:
        """The odd keys of a first look, now held to what moves; until none is odd, or it stays."""
        for seconds in LOOKS_AGAIN_SECONDS:
            await self.sleep(seconds)
            found = seen(await self.row(comparison_at(await self.frontier())))
            if not found.odd:
                break
        return found
