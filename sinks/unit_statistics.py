"""Reads from ClickHouse what a report's numbers follow from.

One query adds up all that is made of sums, so that it is of one moment. Where values have fractions
or are capped at a percentile, a query for those numbers comes before it; quantiles ask by
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from analysis.unit_statistics import StatisticsRequest, UnitStatistics
from sinks.limited_queries import LimitedQueries
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

__all__ = ["TooManySegmentsError", "UnitStatisticsReader"]

_EXACT_VALUES = 2_000_000


class UnitStatisticsReader:
    def __init__(self, queries: LimitedQueries, exact_values: int = _EXACT_VALUES) -> None:
        """`exact_values` of a quantile metric; more are counted by bucket."""
        self._queries = queries
        self._exact_values = exact_values

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
        return await with_quantiles(self._rows, found, self._exact_values)

    async def _rows(self, query: Query) -> Sequence[Sequence[Any]]:
        return await self._queries.rows(query.text, query.parameters)
