"""What the kill switch looks at: one metric by variation, of the units of one watch.

A watch begins with a version of the definition; its units are those whose first exposure was by
that version or a later one. Units seen in several variations are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from analysis.kill_switch import sources_of
from analysis.metric_catalogue import Metric, Source
from analysis.moments import JointMoments
from sinks.clickhouse import AsyncClient, connect, typed_errors
from sinks.settings import ClickHouseSettings

_LONGEST_SECONDS = 10


class Progress(NamedTuple):
    """Changes whenever a worker has applied a batch."""

    batches: int
    applied_at_ms: int


class WatchedUnits:
    """Keeps a client of its own. Every method raises ClickHouseUnavailable or ClickHouseRefused."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def progress(self) -> Progress:
        ((batches, applied_at_ms),) = await self._rows(
            "SELECT sum(batches), toUnixTimestamp64Milli(max(applied_at)) FROM batch_totals", {}
        )
        return Progress(batches, applied_at_ms)

    async def arms(
        self, experiment: str, since_version: int, metric: Metric
    ) -> Mapping[str, JointMoments]:
        """By variation; of a ratio: numerator, then denominator."""
        statement, names = _statement(metric)
        given = {"experiment": experiment, "since": since_version, **names}
        found = {}
        for variation, units, *figures in await self._rows(statement, given):
            if len(figures) == 2:
                average, variance = figures
                moments = JointMoments.from_covariances(units, [average], [[variance]])
            else:
                above, below, of_above, of_below, both = figures
                covariances = [[of_above, both], [both, of_below]]
                moments = JointMoments.from_covariances(units, [above, below], covariances)
            found[variation] = moments
        return found

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _rows(self, statement: str, given: Mapping[str, object]) -> Sequence[Any]:
        with typed_errors(self._settings):
            async with self._connecting:
                if self._client is None:
                    self._client = await connect(self._settings)
            answer = await self._client.query(
                statement,
                parameters=dict(given),
                settings={"max_execution_time": _LONGEST_SECONDS},
            )
            return answer.result_rows


_MET = """
WITH met AS (
    SELECT unit, min(first) AS earliest
    FROM unit_exposures WHERE experiment = {experiment:String} GROUP BY unit
    HAVING earliest.version >= {since:Int32} AND length(groupUniqArrayArray(variations)) = 1
)"""


def _statement(metric: Metric) -> tuple[str, Mapping[str, object]]:
    joins, values, names = [], [], dict[str, object]()
    for index, source in enumerate(sources_of(metric)):
        statement, own = _per_unit(source, index, metric.conversion_window_hours)
        joins.append(f"GLOBAL LEFT JOIN ({statement}) AS of{index} ON of{index}.unit = met.unit")
        values.append(f"{_value(metric, index)} AS v{index}")
        names |= own
    figures = ["avg(v0)", "varSampStable(v0)"]
    if len(values) == 2:
        figures = ["avg(v0)", "avg(v1)", "varSampStable(v0)", "varSampStable(v1)"]
        figures.append("covarSampStable(v0, v1)")
    return (
        f"{_MET} SELECT variation, count(), {', '.join(figures)} FROM ("  # noqa: S608  # our own parts
        f"SELECT met.earliest.variation AS variation, {', '.join(values)} "
        f"FROM met {' '.join(joins)}"
        ") GROUP BY variation ORDER BY variation",
        names,
    )


def _value(metric: Metric, index: int) -> str:
    if metric.kind == "count":
        return f"toFloat64(of{index}.times)"
    if metric.kind == "proportion":
        return f"toFloat64(of{index}.times > 0)"
    if metric.cap is not None and metric.cap.absolute is not None:
        return f"least(of{index}.total, {metric.cap.absolute!r})"
    return f"of{index}.total"


def _per_unit(
    source: Source, index: int, window_hours: float | None
) -> tuple[str, Mapping[str, object]]:
    """A statement that gives `unit`, `total`, and `times`: of how many values that is the sum."""
    if source.turn is not None:
        return (
            f"SELECT unit, toFloat64(sum({source.turn}_sum)) AS total, sum(n) AS times "  # noqa: S608
            "FROM unit_metrics WHERE experiment = {experiment:String} GROUP BY unit",
            {},
        )
    if source.exposures:
        return (
            "SELECT unit, toFloat64(sum(n)) AS total, sum(n) AS times FROM unit_exposures "
            "WHERE experiment = {experiment:String} GROUP BY unit",
            {},
        )
    if source.invite is not None:
        of_loop = f"AND loop = {{loop{index}:String}} " if source.invite.loop is not None else ""
        names = {f"step{index}": source.invite.step, f"loop{index}": source.invite.loop or ""}
        return (
            "SELECT e.unit AS unit, toFloat64(count()) AS total, count() AS times "  # noqa: S608
            f"FROM invites ARRAY JOIN exposures AS e WHERE kind = {{step{index}:String}} {of_loop}"
            "AND e.experiment = {experiment:String} GROUP BY unit",
            names,
        )
    within = ""
    if window_hours is not None:
        milliseconds = round(window_hours * 3_600_000)
        within = f"AND dateDiff('millisecond', met.earliest.ts, ts) < {milliseconds} "
    return (
        "SELECT met.unit AS unit, sum(value) AS total, count() AS times FROM ("  # noqa: S608
        "SELECT unit, ts, tupleElement(arrayJoin(arrayFilter("
        f"one -> one.name = {{outcome{index}:String}}, values)), 'value') AS value "
        "FROM outcomes WHERE unit GLOBAL IN (SELECT unit FROM met)) AS done "
        "GLOBAL INNER JOIN met ON met.unit = done.unit "
        f"WHERE ts >= met.earliest.ts {within}GROUP BY unit",
        {f"outcome{index}": source.outcome},
    )
