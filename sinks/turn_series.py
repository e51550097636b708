"""What turns cost and did over time, each turn once.

From the raw rows: `metric_windows` has a turn once for each exposure that it carried, so its sums
over experiments count some turns several times, and nothing in them tells which.
"""

# ruff: noqa: S608  # names are ours, values are parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sinks.limited_queries import LimitedQueries, milliseconds, moment

Step = Literal["minute", "hour", "day"]
LATENCIES = ("turn_ms", "model_ms")
AMOUNTS = (
    *("bundle_tokens", "output_tokens", "retries", "fallbacks", "tool_calls"),
    *("acts", "choices", "time_ticks"),
)
QUANTILES = (0.5, 0.9, 0.95, 0.99)
_START_OF = {"minute": "toStartOfMinute", "hour": "toStartOfHour", "day": "toStartOfDay"}


class Latency(NamedTuple):
    """In ms, exact."""

    mean: float
    maximum: int
    quantiles: tuple[int, ...]
    """In the order of QUANTILES."""


class Amount(NamedTuple):
    total: int
    turns_with_any: int


class TurnPoint(NamedTuple):
    at: datetime
    locale: str | None
    turns: int
    latencies: Mapping[str, Latency]
    amounts: Mapping[str, Amount]


@dataclass(frozen=True, slots=True)
class TurnSeriesQuestion:
    step: Step
    since: datetime
    until: datetime
    """Not included."""
    locales: tuple[str, ...] | None
    by_locale: bool
    most: int
    """Points; there are more when one more comes back."""


async def turn_series(queries: LimitedQueries, asked: TurnSeriesQuestion) -> list[TurnPoint]:
    """In the order of time, then locale; a step without turns has no point.

    Raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused.
    """
    levels = ", ".join(map(repr, QUANTILES))
    measures = [
        *(f"avg({n}), max({n}), quantilesExact({levels})({n})" for n in LATENCIES),
        *(f"sum({name}), countIf({name} > 0)" for name in AMOUNTS),
    ]
    start = f"toUnixTimestamp({_START_OF[asked.step]}(ts))"
    locale = "toString(locale)" if asked.by_locale else "''"
    rows = await queries.rows(
        f"SELECT {start} AS at, {locale} AS of, count(), {', '.join(measures)} FROM turn_metrics "
        # DateTime64 on both sides: compared with a DateTime, rows of the last second go missing.
        "WHERE ts >= fromUnixTimestamp64Milli({since:Int64}) "
        "AND ts < fromUnixTimestamp64Milli({until:Int64}) "
        + ("AND locale IN {locales:Array(String)} " if asked.locales is not None else "")
        + "GROUP BY at, of ORDER BY at, of LIMIT {limit:UInt32}",
        {
            "since": milliseconds(asked.since),
            "until": milliseconds(asked.until),
            "locales": list(asked.locales or ()),
            "limit": asked.most + 1,
        },
    )
    return [_point(row, by_locale=asked.by_locale) for row in rows]


def _point(row: Sequence[Any], *, by_locale: bool) -> TurnPoint:
    at, locale, turns, *figures = row
    latencies = {
        name: Latency(figures[3 * i], figures[3 * i + 1], tuple(figures[3 * i + 2]))
        for i, name in enumerate(LATENCIES)
    }
    rest = figures[3 * len(LATENCIES) :]
    amounts = {name: Amount(rest[2 * i], rest[2 * i + 1]) for i, name in enumerate(AMOUNTS)}
    return TurnPoint(moment(at * 1000), locale if by_locale else None, turns, latencies, amounts)
