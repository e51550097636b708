"""`metric_windows`, `metric_hours` and `metric_days` against the raw rows, span by span.

The minutes are made of raw rows again. Hours are held against minutes, and days against hours,
which is cheap. Where they differ, raw rows tell what moves from what is wrong.

A window is looked at as a whole first: a mark, the sum of hashes of all its rows, takes no memory a
row. Outcomes are apart, since sums of fractions depend on the order in which they were added.
"""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from analysis.sketches import bucket_sql
from sinks import verify_sources as sources
from sinks.verify_comparison import SETTLED, Measure, Odd, Subject, comparison, seen
from sinks.verify_questions import Findings, Progress, Questions
from sinks.verify_sources import BARE, EVERY, KEYED, Frontier, Kind, Span

# Sums of whole numbers are exact below 2^53. Others may be off by what the order of adding does, on
# the scale of the values: a sum of both signs can be next to nothing.
_SAME_SUM = (
    "if(are_whole AND abs({1}) < 9e15, {0} = {1}, abs({0} - {1}) <= "
    "1e-9 * sqrt(greatest(found_n, all_n) * greatest(found_squares, all_squares)))"
)
_SAME_SQUARES = "if(are_whole AND {1} < 9e15, {0} = {1}, abs({0} - {1}) <= 1e-9 * {1})"
_MEASURES = (
    Measure("n"),
    Measure("total", same=_SAME_SUM, bound="none"),
    Measure("squares", same=_SAME_SQUARES, bound="none"),
    Measure("least", "min", bound="falls"),
    Measure("greatest", "max"),
    Measure("marks", bound="none"),
)
_NAMES = {
    "total": "sum",
    "squares": "sum_sq",
    "least": "min",
    "greatest": "max",
    "marks": "histogram (bucket: times)",
}
_KEYS = ("window", "experiment", "version", "variation", "locale", "metric")

# What one query may take at once: rows to read, and stored rows, none of which may have merged.
_RAW_ROWS, _STORED_ROWS = 5_000_000, 1_000_000
_HISTOGRAMS_SHOWN = 5
_WINDOWS_LISTED = 500


class Width(NamedTuple):
    table: str
    start_of: str
    """The function that finds the window of a time."""
    length: timedelta
    of: str | None
    """The table of narrower windows that it is made of; None for raw rows."""

    @property
    def subject(self) -> Subject:
        return Subject(self.table, _KEYS, _MEASURES, also=("are_whole",))


MINUTES = Width("metric_windows", "toStartOfMinute", timedelta(minutes=1), None)
HOURS = Width("metric_hours", "toStartOfHour", timedelta(hours=1), "metric_windows")
DAYS = Width("metric_days", "toStartOfDay", timedelta(days=1), "metric_hours")


async def check_windows(
    ask: Questions,
    findings: Findings,
    start: datetime,
    minutes: Span | None,
    progress: Progress,
) -> None:
    """All windows, of each width, from the one on that holds `start`; of `minutes` these alone."""
    minute = start.replace(second=0, microsecond=0)
    hour, day = minute.replace(minute=0), minute.replace(minute=0, hour=0)
    each = [minutes] if minutes else spans(await _loads(ask, minute, sources.RAW_TABLES), minute)
    steps = [(MINUTES, span) for span in each]
    for span in spans(await _loads(ask, day), day, DAYS.length):
        if span.end > hour:
            steps.append((HOURS, span._replace(start=max(span.start, hour))))
        steps.append((DAYS, span))
    for number, (width, span) in enumerate(steps):
        progress(width.table, number / len(steps))
        await _check(ask, findings, width, span)


async def _check(ask: Questions, findings: Findings, width: Width, span: Span) -> None:
    (stored,) = await ask.row(f"SELECT count() FROM {width.table} WHERE {span.of('window')}")
    findings.checked[width.table] += stored
    odd = sorted({*await _odd_by_mark(ask, width, span), *await _odd_by_key(ask, width, span)})
    if not odd:
        return
    near = Span(odd[0], odd[-1] + width.length)
    listed = ", ".join(str(int(at.timestamp())) for at in odd[:_WINDOWS_LISTED])
    only = f"toUnixTimestamp(window) IN ({listed})" if len(odd) <= _WINDOWS_LISTED else "1"

    def held(frontier: Frontier) -> str:
        made = sources.windows(width.start_of, near, frontier)
        return comparison(width.subject, _stored(width.table, width, near), made, only=only)

    looked = await ask.looked_at_again(held)
    examples = []
    for number, one in enumerate(looked.examples):
        if number < _HISTOGRAMS_SHOWN and one.wrong[-1] and all(one.sides):
            examples.append(await _with_histograms(ask, width, one))
        else:
            examples.append(one)
    findings.add_odd(width.subject, looked._replace(examples=tuple(examples)), _NAMES)


async def _odd_by_mark(ask: Questions, width: Width, span: Span) -> list[datetime]:
    """Of keys with an experiment or a locale, to which outcomes add nothing: all sums are whole."""
    squares = "if(squares < 9e15, 0, 16)"
    mark = (
        f"toInt64(sum(cityHash64({', '.join(_KEYS[1:])}, n, total, bitShiftRight("
        f"reinterpretAsUInt64(squares), {squares}), least, greatest, marks))) AS mark"
    )
    found = _stored(width.table, width, span, KEYED)
    rows = await ask.rows(
        f"SELECT window FROM (SELECT window, {mark} FROM ({found}) GROUP BY window UNION ALL "
        f"SELECT window, -{mark} FROM ({_made(width, span, KEYED)}) GROUP BY window) "
        "GROUP BY window HAVING sum(mark) != 0"
    )
    return [window.replace(tzinfo=UTC) for (window,) in rows]


async def _odd_by_key(ask: Questions, width: Width, span: Span) -> list[datetime]:
    """Of all others, of which outcomes are a part: sums may differ by how they were added."""
    found, made = _stored(width.table, width, span, BARE), _made(width, span, BARE)
    looked = seen(await ask.row(comparison(width.subject, found, made)))
    return [datetime.fromisoformat(at).replace(tzinfo=UTC) for at in looked.odd_keys]


def _made(width: Width, span: Span, kind: Kind) -> str:
    """What the table should be, by the raw rows or by windows that are held against them."""
    if width.of is None:
        return sources.windows(width.start_of, span, None, kind)
    return f"SELECT *, {SETTLED} AS side FROM ({_stored(width.of, width, span, kind)})"


def _stored(table: str, width: Width, span: Span, kind: Kind = EVERY) -> str:
    """The table as it is when merged, its windows made as wide."""
    return (
        "SELECT begun AS window, experiment, version, variation, locale, metric, n, total, "
        "squares, least, greatest, marks, total = round(total) AND squares = round(squares) "
        "AS are_whole FROM ("
        f"SELECT {width.start_of}(window) AS begun, experiment, version, variation, locale, "
        "metric, sum(n) AS n, sum(sum) AS total, sum(sum_sq) AS squares, min(min) AS least, "
        f"max(max) AS greatest, sum({sources.histogram_mark('histogram')}) AS marks "
        f"FROM {table} WHERE {span.of('window')} AND {kind} "
        "GROUP BY begun, experiment, version, variation, locale, metric)"
    )


class Load(NamedTuple):
    hour: datetime
    raw_rows: int
    stored_rows: int


def spans(
    loads: Iterable[Load], start: datetime, step: timedelta = MINUTES.length
) -> Iterator[Span]:
    """From `start` on, one after the other, each as long as one query can take.

    They begin and end at whole steps. An hour that is too much alone is cut where steps allow.
    """
    begun, end, raw, stored = start, start, 0, 0
    for hour, raw_rows, stored_rows in sorted(loads):
        too_much = raw + raw_rows > _RAW_ROWS or stored + stored_rows > _STORED_ROWS
        if begun < end <= hour and too_much:
            yield Span(begun, end)
            begun, raw, stored = end, 0, 0
        raw, stored = raw + raw_rows, stored + stored_rows
        end = max(end, _whole(hour, step) + max(step, HOURS.length))
        parts = min(max(raw_rows // _RAW_ROWS, stored_rows // _STORED_ROWS), 60)
        if parts > 1 and step < HOURS.length:
            length = HOURS.length / 60 * -(-60 // parts)
            while begun + length < end:
                yield Span(begun, begun + length)
                begun += length
    if begun < end:
        yield Span(begun, end)


def _whole(at: datetime, step: timedelta) -> datetime:
    return at - (at - datetime(1970, 1, 1, tzinfo=UTC)) % step


async def _loads(
    ask: Questions, start: datetime, raw_tables: Mapping[str, str] = MappingProxyType({})
) -> list[Load]:
    """What there is by hour of event time, of stored windows and of rows of these raw tables."""
    since = Span(start, datetime(2100, 1, 1, tzinfo=UTC))
    counts = [
        f"SELECT toStartOfHour(ts) AS hour, count() AS raw, 0 AS stored FROM {table} "
        f"WHERE {since.of('ts')} GROUP BY hour"
        for table in raw_tables.values()
    ]
    counts += [
        f"SELECT toStartOfHour(window) AS hour, 0 AS raw, count() AS stored FROM {width.table} "
        f"WHERE {since.of('window')} GROUP BY hour"
        for width in (MINUTES, HOURS, DAYS)
    ]
    rows = await ask.rows(
        "SELECT toUnixTimestamp(hour), sum(raw), sum(stored) "
        f"FROM ({' UNION ALL '.join(counts)}) GROUP BY hour ORDER BY hour"
    )
    return [Load(datetime.fromtimestamp(hour, UTC), raw, stored) for hour, raw, stored in rows]


async def _with_histograms(ask: Questions, width: Width, odd: Odd) -> Odd:
    """With the buckets that differ, in place of the marks that showed that some do."""
    at = datetime.fromisoformat(odd.keys[0]).replace(tzinfo=UTC)
    key = dict(zip(_KEYS, odd.keys, strict=True))
    span = Span(at, at + width.length)
    values = sources.values_of(key["metric"], span)
    same_key = "(experiment, toString(version), variation, locale) = " + sources.texts(
        odd.keys[1:5]
    )
    rows = await ask.rows(
        "SELECT bucket, sum(stored), sum(made) FROM ("
        "SELECT entry.1 AS bucket, toInt64(entry.2) AS stored, 0 AS made "
        f"FROM {width.table} ARRAY JOIN CAST(histogram, 'Array(Tuple(Int32, UInt64))') AS entry "
        f"WHERE {span.of('window')} AND metric = {sources.text(key['metric'])} AND {same_key} "
        f"UNION ALL SELECT {bucket_sql('value')} AS bucket, 0 AS stored, 1 AS made "
        f"FROM ({values}) WHERE {same_key}"
        ") GROUP BY bucket HAVING sum(stored) != sum(made) ORDER BY bucket LIMIT 10"
    )
    found = ", ".join(f"{bucket}: {stored}" for bucket, stored, _ in rows)
    expected = ", ".join(f"{bucket}: {made}" for bucket, _, made in rows)
    return odd._replace(
        found=(*odd.found[:-1], found),
        expected=(*odd.expected[:-1], expected),
        settled=(*odd.settled[:-1], expected),
    )
