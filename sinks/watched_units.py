"""What the kill switch looks at: whether there is anything new, and one metric of a watch's units.

A watch begins with a version of the definition; its units are those whose first exposure was by
that version or a later one. The numbers are a report's (`sinks.unit_statistics`), so both say the
same. Units seen in several variations are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from analysis.estimates import Estimate
from analysis.metric_catalogue import Metric
from analysis.report_metrics import estimate_of
from analysis.unit_statistics import StatisticsRequest
from analysis.verdict import NoVerdict
from sinks.limited_queries import LimitedQueries, QueryLimits
from sinks.settings import ClickHouseSettings
from sinks.unit_statistics import UnitStatisticsReader

LIMITS = QueryLimits(seconds=10.0, memory_mb=1_000)
_NEWEST_VERSION = 2**31 - 1


class Progress(NamedTuple):
    """Changes whenever a worker has applied a batch."""

    batches: int
    applied_at_ms: int


class WatchedUnits:
    """Keeps a client of its own.

    Every method raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused.
    """

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._queries = LimitedQueries(settings, LIMITS)
        self._statistics = UnitStatisticsReader(self._queries)

    async def progress(self) -> Progress:
        ((batches, applied_at_ms),) = await self._queries.rows(
            "SELECT sum(batches), toUnixTimestamp64Milli(max(applied_at)) FROM batch_totals", {}
        )
        return Progress(batches, applied_at_ms)

    async def arms(
        self, experiment: str, since_version: int, variations: Sequence[str], metric: Metric
    ) -> Mapping[str, Estimate | NoVerdict]:
        """By variation."""
        asked = StatisticsRequest(
            experiment,
            tuple(variations),
            {"watched": metric},
            versions=(since_version, _NEWEST_VERSION),
        )
        arms = (await self._statistics.of(asked)).arms
        return {
            variation: estimate_of(metric, arm, arm.metrics["watched"])
            for variation, arm in arms.items()
        }

    async def close(self) -> None:
        await self._queries.close()
