"""What ClickHouse knows of ingestion: what was applied of each partition, how late, how well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sinks.clickhouse import LastingClient, typed_errors
from sinks.settings import ClickHouseSettings

_SECONDS = 60


class PartitionFigures(NamedTuple):
    """Of the newest life of the partition, but for the sums, which are of all of them."""

    topic: str
    partition: int
    epoch: str
    stored: int
    dead: int
    skipped: int
    lost: int
    batches: int
    applied_offset: int
    last_event_time: datetime | None
    applied_at: datetime


class Figures(NamedTuple):
    partitions: tuple[PartitionFigures, ...]
    per_second: dict[str, float]
    """Events stored by topic, over the last minute."""
    late: dict[str, int]
    reasons: dict[str, dict[str, int]]
    """Dead letters by topic and reason."""


class IngestionFigures:
    """Keeps a client of its own."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client = LastingClient(settings)

    async def read(self) -> Figures:
        """Raises ClickHouseUnavailable or ClickHouseRefused."""
        totals, rates, late, reasons = await asyncio.gather(
            self._rows(
                "SELECT topic, partition, argMax(epoch, at), sum(stored), sum(died), "
                "sum(left_out), sum(gone), sum(ranges), argMax(last_offset, at), "
                "toUnixTimestamp64Milli(argMax(highest, at)), toUnixTimestamp64Milli(max(at)) "
                "FROM (SELECT topic, partition, epoch, sum(rows) AS stored, sum(dead) AS died, "
                "sum(skipped) AS left_out, sum(lost) AS gone, sum(batches) AS ranges, "
                "max(last) AS last_offset, max(max_ts) AS highest, max(applied_at) AS at "
                "FROM batch_totals GROUP BY topic, partition, epoch) "
                "GROUP BY topic, partition ORDER BY topic, partition"
            ),
            self._rows(
                f"SELECT topic, sum(rows) / {_SECONDS} FROM batches "  # noqa: S608  # a constant
                f"WHERE applied_at > now64(3) - INTERVAL {_SECONDS} SECOND GROUP BY topic"
            ),
            self._rows("SELECT topic, sum(events) FROM restatements GROUP BY topic"),
            self._rows(
                "SELECT topic, reason, count() FROM dead_letters GROUP BY topic, reason "
                "ORDER BY topic, reason"
            ),
        )
        found: dict[str, dict[str, int]] = {}
        for topic, reason, count in reasons:
            found.setdefault(topic, {})[reason] = count
        return Figures(
            partitions=tuple(_partition(row) for row in totals),
            per_second={topic: float(rate) for topic, rate in rates},
            late={topic: int(events) for topic, events in late},
            reasons=found,
        )

    async def close(self) -> None:
        await self._client.close()

    async def _rows(self, statement: str) -> Sequence[Any]:
        with typed_errors(self._settings):
            client = await self._client.get()
            answer = await client.query(statement, settings={"max_execution_time": 5})
            return answer.result_rows


def _partition(row: Sequence[Any]) -> PartitionFigures:
    *known, highest_ms, applied_at_ms = row
    highest = _moment(highest_ms) if highest_ms > 0 else None
    return PartitionFigures._make([*known, highest, _moment(applied_at_ms)])


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
