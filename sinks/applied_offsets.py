"""How far each partition has been applied: what an answer was made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sinks.limited_queries import LimitedQueries


class AppliedOffset(NamedTuple):
    topic: str
    partition: int
    epoch: str
    """Which life of the partition: a topic made anew has another."""
    offset: int
    """The last one applied."""


async def applied_offsets(
    queries: LimitedQueries, topics: Sequence[str]
) -> tuple[AppliedOffset, ...]:
    """Raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused."""
    rows = await queries.rows(
        "SELECT topic, partition, argMax(epoch, at), argMax(offset, at) FROM ("
        "SELECT topic, partition, epoch, max(last) AS offset, max(applied_at) AS at "
        "FROM batch_totals WHERE topic IN {topics:Array(String)} GROUP BY topic, partition, epoch) "
        "GROUP BY topic, partition ORDER BY topic, partition",
        {"topics": list(topics)},
    )
    return tuple(AppliedOffset(*row) for row in rows)
