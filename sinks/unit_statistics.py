"""Reads from ClickHouse what a report's numbers follow from.

One query adds up all that is made of sums, so that it is of one moment. Where values have fractions
or are capped at a percentile, a query for those numbers comes before it; quantiles ask by
themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from analysis.unit_statistics import StatisticsRequest, UnitStatistics
from sinks.clickhouse import ClickHouseRefused, LastingClient, typed_errors
from sinks.settings import ClickHouseSettings
from sinks.statistics_answer import TooManySegmentsError, gathered
from sinks.statistics_sql import (
    Known,
    Query,
    known_from,
    preparation,
    sums,
    unknown_variations,
)
from sinks.unit_columns import columns_of
from sinks.unit_quantiles import with_quantiles

__all__ = [
    "QueryLimitError",
    "StatisticsLimits",
    "TooManySegmentsError",
    "UnitStatisticsReader",
]

_TIMEOUT_EXCEEDED = 159
_MEMORY_LIMIT_EXCEEDED = 241


class StatisticsLimits(NamedTuple):
    """Of each query."""

    seconds: float = 20.0
    memory_bytes: int = 2_000_000_000
    threads: int = 0
    """0 leaves it to the engine."""
    exact_values: int = 2_000_000
    """Of a quantile metric; more are counted by bucket."""


DEFAULT_LIMITS = StatisticsLimits()


class QueryLimitError(Exception):
    """A query met a limit, which `limit` names: `seconds` or `memory_bytes`."""

    def __init__(self, limit: str, sentence: str) -> None:
        super().__init__(sentence)
        self.limit = limit


class UnitStatisticsReader:
    """Keeps a client of its own."""

    def __init__(
        self, settings: ClickHouseSettings, limits: StatisticsLimits = DEFAULT_LIMITS
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._client = LastingClient(settings)

    async def of(self, request: StatisticsRequest) -> UnitStatistics:
        """Raises TooManySegmentsError, QueryLimitError, ClickHouseUnavailable or
        ClickHouseRefused.
        """
        columns, known = columns_of(request.metrics), Known()
        before = preparation(request, columns)
        if before is not None:
            known = known_from((await self._rows(before))[0], columns)
        rows = await self._rows(sums(request, columns, known))
        found = gathered(request, columns, known, rows)
        if any(row[0] == 0 for row in rows):
            unknown = await self._rows(unknown_variations(request))
            found = replace(
                found, unknown_variations={str(key): int(units) for key, units in unknown}
            )
        return await with_quantiles(self._rows, found, self._limits.exact_values)

    async def close(self) -> None:
        await self._client.close()

    async def _rows(self, query: Query) -> Sequence[Sequence[Any]]:
        limits = self._limits
        settings: dict[str, Any] = {
            "max_execution_time": limits.seconds,
            "max_memory_usage": limits.memory_bytes,
            "distributed_product_mode": "global",  # on a cluster, a join's side is made once
            # On, the engine makes sum(v) - shift * count() of sum(v - shift): what shifts are
            # there to avoid.
            "optimize_arithmetic_operations_in_aggregate_functions": 0,
        }
        if limits.threads:
            settings["max_threads"] = limits.threads
        with _naming_limits(limits), typed_errors(self._settings):
            client = await self._client.get()
            answer = await client.query(
                query.text, parameters=dict(query.parameters), settings=settings
            )
        return answer.result_rows


@contextmanager
def _naming_limits(limits: StatisticsLimits) -> Iterator[None]:
    try:
        yield
    except ClickHouseRefused as refused:
        if refused.code == _TIMEOUT_EXCEEDED:
            raise QueryLimitError(
                "seconds",
                f"the query took longer than the {limits.seconds:g} s that a report may take; ask "
                "for fewer metrics, a shorter period, or without `by`",
            ) from refused
        if refused.code == _MEMORY_LIMIT_EXCEEDED:
            raise QueryLimitError(
                "memory_bytes",
                f"the query needed more than the {limits.memory_bytes / 1e6:,.0f} MB that a report "
                "may take; ask for fewer metrics, a shorter period, or without `by`",
            ) from refused
        raise
