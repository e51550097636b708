"""`unit_metrics`, `invite_units` and `unit_exposures` against the raw rows.

There may be millions of units, so none is looked at by itself at first. Keys fall into heaps by
their hash, and each heap gets a mark from what is stored and another from raw rows. For sums the
rows need not even be grouped: the hash of a key times a sum adds up as the sum does, modulo 2^64.
Only heaps with two different marks are gone through key by key, as many as memory takes.
"""

# ruff: noqa: S608  # names are ours, values are numbers

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import NamedTuple

from analysis.windows import INVITE_STEPS, TURN_METRICS
from schemas import topics
from sinks import verify_sources as sources
from sinks.verify_comparison import Measure, Subject, comparison
from sinks.verify_questions import Findings, Limits, Progress, Questions
from sinks.verify_sources import Frontier, Span

_HEAPS = 256
_RAW_ROWS_AT_ONCE = 10_000_000

# Both tables lie in the order of their units: next to nothing is held, if blocks are small.
_IN_ORDER = {
    "optimize_aggregation_in_order": 1,
    "aggregation_in_order_max_block_bytes": 1_000_000,
    "max_block_size": 4_096,
}


class DailySums(NamedTuple):
    """A table of whole numbers by day and key, and what a raw row adds to it."""

    table: str
    topic: str
    keys: tuple[str, ...]
    """Without the day."""
    sums: tuple[tuple[str, str], ...]
    """The table's columns, and what one raw row adds to each."""
    of_raw_row: str
    """Follows the raw table's name: what makes a row count for each of its keys."""
    made: Callable[[Span, Frontier | None, str], str]

    @property
    def raw_table(self) -> str:
        return sources.RAW_TABLES[self.topic]

    @property
    def hashed(self) -> str:
        return f"cityHash64({', '.join(self.keys)})"

    @property
    def subject(self) -> Subject:
        names = [name for name, _ in self.sums if name != "n"]
        return Subject(self.table, ("day", *self.keys), tuple(map(Measure, ("n", *names))))

    @property
    def n(self) -> str:
        return "n" if self.sums[0][0] == "n" else " + ".join(name for name, _ in self.sums)


UNIT_METRICS = DailySums(
    "unit_metrics",
    topics.TURN_METRICS.name,
    ("experiment", "version", "variation", "unit"),
    (("n", "1"), *((f"{metric}_sum", metric) for metric in TURN_METRICS)),
    "ARRAY JOIN exposures.experiment AS experiment, exposures.version AS version, "
    "exposures.variation AS variation, exposures.unit AS unit WHERE 1",
    sources.unit_metrics,
)
INVITE_UNITS = DailySums(
    "invite_units",
    topics.INVITES.name,
    ("loop", "inviter", "locale"),
    tuple((step, f"(kind = '{step}')") for step in INVITE_STEPS),
    f"WHERE kind IN {INVITE_STEPS}",
    sources.invite_units,
)


async def check_daily_sums(
    ask: Questions, findings: Findings, sums: DailySums, start: datetime, progress: Progress
) -> None:
    """From the day on that holds `start`."""
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    if not await ask.affords(sums.topic, midnight):
        return
    rows = await ask.rows(
        "SELECT day, sum(raw), sum(stored) FROM ("
        f"SELECT toDate(ts) AS day, count() AS raw, 0 AS stored FROM {sums.raw_table} "
        f"WHERE toDate(ts) >= {_date(start)} GROUP BY day UNION ALL "
        f"SELECT day, 0 AS raw, count() AS stored FROM {sums.table} "
        f"WHERE day >= {_date(start)} GROUP BY day) GROUP BY day ORDER BY day"
    )
    stored = {day: stored for day, _, stored in rows}
    findings.checked[sums.table] += sum(stored.values())
    for number, days in enumerate(several := list(_together(rows))):
        progress(sums.table, number / len(several))
        for day, heaps in (await _odd_heaps(ask, sums, days)).items():
            for some in _parts(heaps, stored.get(day, 0), ask.limits):
                await _check_sums(ask, findings, sums, day, some)


async def _odd_heaps(
    ask: Questions, sums: DailySums, days: Sequence[date]
) -> dict[date, list[int]]:
    within = f"day BETWEEN {_date(days[0])} AND {_date(days[-1])}"
    key, heap = sums.hashed, f"bitAnd({sums.hashed}, {_HEAPS - 1})"
    stored, made = (
        " + ".join(f"cityHash64('{pair[0]}') * {pair[column]}" for pair in sums.sums)
        for column in (0, 1)
    )
    rows = await ask.rows(
        "SELECT day, heap FROM ("
        f"SELECT day, {heap} AS heap, toInt64(sum({key} * ({stored}))) AS mark FROM {sums.table} "
        f"WHERE {within} GROUP BY day, heap UNION ALL "
        f"SELECT toDate(ts) AS day, {heap} AS heap, -toInt64(sum({key} * ({made}))) AS mark "
        f"FROM {sums.raw_table} {sums.of_raw_row} AND {Span.of_days(days[0], days[-1]).of('ts')} "
        "GROUP BY day, heap) GROUP BY day, heap HAVING sum(mark) != 0"
    )
    odd: dict[date, list[int]] = defaultdict(list)
    for day, number in rows:
        odd[day].append(number)
    return odd


async def _check_sums(
    ask: Questions, findings: Findings, sums: DailySums, day: date, heaps: Iterable[int]
) -> None:
    chosen = f"bitAnd({sums.hashed}, {_HEAPS - 1}) IN ({_list(heaps)})"
    columns = ", ".join(f"sum({name}) AS {name}" for name, _ in sums.sums)
    n = "" if sums.n == "n" else f", {sums.n} AS n"
    keys = ", ".join(("day", *sums.keys))
    found = (
        f"SELECT *{n} FROM (SELECT {keys}, {columns} FROM {sums.table} "
        f"WHERE day = {_date(day)} AND {chosen} GROUP BY {keys})"
    )
    span = Span.of_days(day, day)
    subject = sums.subject
    looked = await ask.looked_at_again(
        lambda frontier: comparison(subject, found, sums.made(span, frontier, chosen))
    )
    findings.add_odd(subject, looked)


_EXPOSED = Subject(
    "unit_exposures",
    ("experiment", "unit"),
    (
        Measure("n"),
        Measure("first", "min", bound="falls"),
        Measure("last_ts", "max"),
        Measure("variations", "groupUniqArrayArray", "arraySort({0}) = arraySort({1})", "none"),
    ),
)


async def check_unit_exposures(
    ask: Questions,
    findings: Findings,
    since: datetime | None,
    horizon: datetime,
    progress: Progress,
) -> None:
    """All units or, with `since`, those that were exposed from then on.

    Units first exposed before the `horizon` are left out: some of their raw rows may be gone.
    """
    progress("unit_exposures", 0)
    if not await ask.affords(topics.EXPOSURES.name, since or horizon):
        return
    recent = "1"
    if since is not None:
        at = sources.second(since)
        recent = (
            "(experiment, unit) IN (SELECT experiment, unit FROM exposures "
            f"WHERE ts >= {at} UNION ALL SELECT experiment, unit FROM unit_exposures "
            f"WHERE last_ts >= {at})"
        )
    (stored,) = await ask.row(f"SELECT count() FROM unit_exposures WHERE {recent}")
    findings.checked["unit_exposures"] += stored
    heaps = await _odd_heaps_of_exposures(ask) if since is None else range(_HEAPS)
    excused = f"is_stored > 0 AND tupleElement(found_first, 1) < {sources.second(horizon)}"
    for some in _parts(heaps, stored, ask.limits):
        chosen = f"bitAnd(cityHash64(experiment, unit), {_HEAPS - 1}) IN ({_list(some)})"

        def held(frontier: Frontier, chosen: str = chosen) -> str:
            made = sources.unit_exposures(frontier, chosen)
            return comparison(_EXPOSED, _exposed(chosen), made, only=recent, excused=excused)

        findings.add_odd(_EXPOSED, await ask.looked_at_again(held))


async def _odd_heaps_of_exposures(ask: Questions) -> list[int]:
    heap = f"bitAnd(cityHash64(experiment, unit), {_HEAPS - 1}) AS heap"
    mark = "toInt64(sum(cityHash64(experiment, unit, first, last_ts, variations, n)))"
    rows = await ask.rows(
        f"SELECT heap FROM (SELECT {heap}, {mark} AS mark FROM ({_exposed()}) GROUP BY heap "
        f"UNION ALL SELECT {heap}, -{mark} AS mark FROM ({sources.unit_exposures(None)}) "
        "GROUP BY heap) GROUP BY heap HAVING sum(mark) != 0",
        **_IN_ORDER,
    )
    return sorted(heap for (heap,) in rows)


def _exposed(chosen: str = "1") -> str:
    return (
        "SELECT experiment, unit, min(first) AS first, max(last_ts) AS last_ts, "
        "arraySort(groupUniqArrayArray(variations)) AS variations, sum(n) AS n "
        f"FROM unit_exposures WHERE {chosen} GROUP BY experiment, unit"
    )


def _parts(heaps: Sequence[int], stored: int, limits: Limits) -> Iterator[Sequence[int]]:
    """So many at a time that their keys fit, if heaps are about as large as each other."""
    size = max(1, min(_HEAPS, _HEAPS * limits.keys_at_once // max(1, stored)))
    for at in range(0, len(heaps), size):
        yield heaps[at : at + size]


def _together(rows: Iterable[tuple[date, int, int]]) -> Iterator[Sequence[date]]:
    """Days that one query goes through."""
    days: list[date] = []
    raw = 0
    for day, raw_rows, _ in rows:
        if days and raw + raw_rows > _RAW_ROWS_AT_ONCE:
            yield days
            days, raw = [], 0
        days.append(day)
        raw += raw_rows
    if days:
        yield days


def _date(day: date) -> str:
    return f"toDate('{day:%Y-%m-%d}')"


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
