"""The steps of invitations by inviter, as sums over inviters."""

# ruff: noqa: S608  # names are ours, values are parameters

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple

from analysis.moments import JointMoments
from sinks.limited_queries import LimitedQueries

Dimension = Literal["locale", "day"]
_STEPS = ("sent", "joined", "fvm")


class GrowthRow(NamedTuple):
    """Of a loop, or of a part of it."""

    loop: str
    is_part: bool
    day: date | None
    locale: str | None
    totals: tuple[int, int, int]
    """Sent, joined and first valuable moments, of those who sent."""
    moments: JointMoments
    """Over inviters who sent, of the three."""
    others: tuple[int, int]
    """Joined and first valuable moments of inviters who sent nothing in the span."""


@dataclass(frozen=True, slots=True)
class GrowthQuestion:
    since: date
    until: date
    """Not included."""
    loop: str | None
    locales: tuple[str, ...] | None
    by: tuple[Dimension, ...]
    most: int
    """Rows; there are more when one more comes back."""


async def growth_rows(queries: LimitedQueries, asked: GrowthQuestion) -> list[GrowthRow]:
    """Of loops, in the order of their names, each followed by its parts by day, then locale.

    Raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused.
    """
    wanted = ["day >= {since:Date}", "day < {until:Date}"]
    wanted += ["loop = {loop:String}"] if asked.loop is not None else []
    wanted += ["locale IN {locales:Array(String)}"] if asked.locales is not None else []
    selected = [_select((), wanted), *([_select(asked.by, wanted)] if asked.by else [])]
    rows = await queries.rows(
        f"SELECT * FROM ({' UNION ALL '.join(selected)}) ORDER BY loop, is_part, day, locale "
        "LIMIT {limit:UInt32}",
        {
            "since": asked.since,
            "until": asked.until,
            "loop": asked.loop or "",
            "locales": list(asked.locales or ()),
            "limit": asked.most + 1,
        },
    )
    return [_row(row) for row in rows]


def _select(by: Sequence[Dimension], wanted: Sequence[str]) -> str:
    # Whole numbers throughout: nothing is rounded until they are floats here.
    sums = [f"sumIf({name}, sent > 0)" for name in _STEPS]
    products = [
        f"sumIf({left} * {right}, sent > 0)"
        for i, left in enumerate(_STEPS)
        for right in _STEPS[i:]
    ]
    others = [f"sumIf({name}, sent = 0)" for name in _STEPS[1:]]
    day = "toNullable(day)" if "day" in by else "CAST(NULL, 'Nullable(Date)')"
    locale = "toNullable(toString(locale))" if "locale" in by else "CAST(NULL, 'Nullable(String)')"
    keys = ", ".join(["loop", *sorted(by)])
    return (
        f"SELECT toString(loop) AS loop, {int(bool(by))} AS is_part, {day} AS day, "
        f"{locale} AS locale, countIf(sent > 0), {', '.join([*sums, *products, *others])} FROM ("
        f"SELECT {keys}, inviter, sum(i.sent) AS sent, sum(i.joined) AS joined, sum(i.fvm) AS fvm "
        f"FROM invite_units AS i WHERE {' AND '.join(wanted)} GROUP BY {keys}, inviter) "
        f"GROUP BY {keys}"
    )


async def loops(queries: LimitedQueries) -> list[str]:
    """Every loop of which there is an invitation."""
    rows = await queries.rows("SELECT DISTINCT loop FROM invite_units ORDER BY loop", {})
    return [loop for (loop,) in rows]


def _row(row: Sequence[Any]) -> GrowthRow:
    loop, is_part, day, locale, inviters, *figures = row
    totals, products, others = figures[:3], figures[3:9], figures[9:]
    ss, sj, sf, jj, jf, ff = products
    return GrowthRow(
        loop,
        bool(is_part),
        day,
        locale,
        (totals[0], totals[1], totals[2]),
        JointMoments.from_sums(inviters, totals, ((ss, sj, sf), (sj, jj, jf), (sf, jf, ff))),
        (others[0], others[1]),
    )
