"""What raw rows make of every aggregate: the queries whose answers the tables have to equal.

They say in SQL what analysis/windows.py says of a batch, and share its names and its buckets. A
histogram is compared by a mark: the sum, over its values, of a hash of the bucket, modulo 2^64. It
adds as counts do, and takes no map a row.
"""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple

from analysis.sketches import bucket_sql
from analysis.windows import INVITE_STEPS, TURN_METRICS
from schemas import topics
from sinks.verify_comparison import MOVING, SETTLED

RAW_TABLES: Mapping[str, str] = {
    topics.TURN_METRICS.name: "turn_metrics",
    topics.EXPOSURES.name: "exposures",
    topics.INVITES.name: "invites",
    topics.OUTCOMES.name: "outcomes",
    topics.AUDIT.name: "audit_log",
}
"""By topic, the one with the most rows first."""

Frontier = Mapping[str, Mapping[int, int]]
"""By topic and partition: the last offset of its last finished batch."""

_SUMMED = ("total", "squares", "least", "greatest", "marks")
_BY_EXPOSURE = (
    "LEFT ARRAY JOIN exposures.experiment AS experiment, exposures.version AS version, "
    "exposures.variation AS variation"
)


Kind = Literal["1", "(experiment != '' OR locale != '')", "(experiment = '' AND locale = '')"]
"""Which windows: those that outcomes cannot add to are keyed."""
EVERY: Kind = "1"
KEYED: Kind = "(experiment != '' OR locale != '')"
BARE: Kind = "(experiment = '' AND locale = '')"


class Span(NamedTuple):
    """From `start` on, before `end`."""

    start: datetime
    end: datetime

    @classmethod
    def of_days(cls, first: date, last: date) -> Span:
        """Both whole."""
        midnight = datetime.min.time().replace(tzinfo=UTC)
        end = datetime.combine(last, midnight) + timedelta(days=1)
        return cls(datetime.combine(first, midnight), end)

    def of(self, column: str) -> str:
        return f"{column} >= {second(self.start)} AND {column} < {second(self.end)}"


def mark_sql(bucket: str) -> str:
    return f"intHash64({bucket})"


def histogram_mark(histogram: str) -> str:
    """The mark of a whole histogram."""
    return (
        f"arraySum(arrayMap((bucket, times) -> times * {mark_sql('bucket')}, "
        f"mapKeys({histogram}), mapValues({histogram})))"
    )


def side(topic: str, frontier: Frontier | None) -> str:
    """Without a frontier, every row counts as settled."""
    if frontier is None:
        return str(SETTLED)
    lasts = frontier.get(topic)
    if not lasts:
        return str(MOVING)
    partitions, ends = (", ".join(map(str, numbers)) for numbers in (lasts, lasts.values()))
    last = f"transform(_partition, [{partitions}], [{ends}], toInt64(-1))"
    return f"if(_offset <= {last}, {SETTLED}, {MOVING})"


def batch_side(frontier: Frontier) -> str:
    """As `side`, of a row of `batches`."""
    lasts = {
        f"{topic}:{partition}": last
        for topic, of_topic in frontier.items()
        for partition, last in of_topic.items()
    }
    if not lasts:
        return str(MOVING)
    places, ends = ", ".join(map(text, lasts)), ", ".join(map(str, lasts.values()))
    place = "concat(topic, ':', toString(partition))"
    return f"if(last <= transform({place}, [{places}], [{ends}], toInt64(-1)), {SETTLED}, {MOVING})"


def windows(start_of: str, span: Span, frontier: Frontier | None, kind: Kind = EVERY) -> str:
    """`start_of` is the function that finds a window's start: one query makes every width."""
    within = f"WHERE {span.of('ts')} AND {kind}"
    exposed = "experiment, version, variation, locale, 'exposures' AS metric"
    invited = "experiment, version, variation, locale, concat('invites_', kind) AS metric"
    invites = f"{_BY_EXPOSURE} {within} AND kind IN {INVITE_STEPS}"
    parts = [
        _turn_windows(start_of, within, frontier, kind),
        _one_each(topics.EXPOSURES.name, exposed, within, start_of, frontier),
        _one_each(topics.INVITES.name, invited, invites, start_of, frontier),
    ]
    if kind != KEYED:
        parts.append(_outcome_windows(start_of, f"WHERE {span.of('ts')}", frontier))
    return " UNION ALL ".join(parts)


def _turn_windows(start_of: str, within: str, frontier: Frontier | None, kind: Kind) -> str:
    names = ", ".join(f"summary.{place} AS {name}" for place, name in enumerate(_SUMMED, 2))
    summaries = ", ".join(
        f"('{metric}', {', '.join(_summed(metric, 'toInt64'))})" for metric in TURN_METRICS
    )
    if kind == BARE:  # said of the arrays, too: then few rows are taken apart at all
        within += " AND (empty(exposures.experiment) OR has(exposures.experiment, ''))"
    return (
        "SELECT window, experiment, version, variation, locale, summary.1 AS metric, n, "
        f"{names}, 1 AS are_whole, side FROM ("
        f"SELECT {start_of}(ts) AS window, experiment, version, variation, locale, "
        f"{side(topics.TURN_METRICS.name, frontier)} AS side, count() AS n, "
        f"[{summaries}] AS summaries FROM turn_metrics {_BY_EXPOSURE} {within} "
        "GROUP BY window, experiment, version, variation, locale, side"
        ") ARRAY JOIN summaries AS summary"
    )


def _one_each(topic: str, keys: str, rest: str, start_of: str, frontier: Frontier | None) -> str:
    """Of events that are worth 1 each."""
    values = ("toFloat64(n)", "toFloat64(n)", "1.", "1.", f"n * {mark_sql(bucket_sql('1'))}")
    return (
        f"SELECT {start_of}(ts) AS window, {keys}, count() AS n, {_named(values)}, "
        f"1 AS are_whole, {side(topic, frontier)} AS side FROM {RAW_TABLES[topic]} {rest} "
        "GROUP BY window, experiment, version, variation, locale, metric, side"
    )


def _outcome_windows(start_of: str, within: str, frontier: Frontier | None) -> str:
    return (
        f"SELECT {start_of}(ts) AS window, '' AS experiment, 0 AS version, '' AS variation, "
        f"'' AS locale, metric, count() AS n, {_named(_summed('value', 'toFloat64'))}, "
        f"0 AS are_whole, {side(topics.OUTCOMES.name, frontier)} AS side FROM outcomes "
        f"ARRAY JOIN values.name AS metric, values.value AS value {within} "
        "GROUP BY window, metric, side"
    )


def values_of(metric: str, span: Span) -> str:
    """Each contribution to a metric by itself, with its keys."""
    keys = "experiment, version, variation, locale"
    within = f"WHERE {span.of('ts')}"
    parts = [
        f"SELECT '' AS experiment, 0 AS version, '' AS variation, '' AS locale, "
        f"value.value AS value FROM outcomes ARRAY JOIN values AS value {within} "
        f"AND value.name = {text(metric)}",
        f"SELECT {keys}, 1. AS value FROM exposures {within} AND {text(metric)} = 'exposures'",
        f"SELECT {keys}, 1. AS value FROM invites {_BY_EXPOSURE} {within} "
        f"AND kind IN {INVITE_STEPS} AND concat('invites_', kind) = {text(metric)}",
    ]
    if metric in TURN_METRICS:
        turns = f"FROM turn_metrics {_BY_EXPOSURE} {within}"
        parts.append(f"SELECT {keys}, toFloat64({metric}) AS value {turns}")
    return " UNION ALL ".join(parts)


def text(value: str) -> str:
    """As a literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def texts(values: Iterable[str]) -> str:
    return "(" + ", ".join(map(text, values)) + ")"


def _summed(value: str, wide: str) -> tuple[str, ...]:
    return (
        f"toFloat64(sum({value}))",
        f"toFloat64(sum({wide}({value}) * {value}))",
        f"toFloat64(min({value}))",
        f"toFloat64(max({value}))",
        f"sum({mark_sql(bucket_sql(value))})",
    )


def _named(values: tuple[str, ...]) -> str:
    return ", ".join(f"{value} AS {name}" for value, name in zip(values, _SUMMED, strict=True))


def unit_metrics(span: Span, frontier: Frontier | None, chosen: str) -> str:
    """`chosen` is a condition on the keys."""
    sums = ", ".join(f"sum({metric}) AS {metric}_sum" for metric in TURN_METRICS)
    return (
        "SELECT toDate(ts) AS day, exposure.experiment AS experiment, "
        "exposure.version AS version, exposure.variation AS variation, exposure.unit AS unit, "
        f"count() AS n, {sums}, {side(topics.TURN_METRICS.name, frontier)} AS side "
        f"FROM turn_metrics ARRAY JOIN exposures AS exposure WHERE {span.of('ts')} AND {chosen} "
        "GROUP BY day, experiment, version, variation, unit, side"
    )


def invite_units(span: Span, frontier: Frontier | None, chosen: str) -> str:
    counts = ", ".join(f"countIf(kind = '{step}') AS {step}" for step in INVITE_STEPS)
    return (
        f"SELECT toDate(ts) AS day, loop, inviter, locale, count() AS n, {counts}, "
        f"{side(topics.INVITES.name, frontier)} AS side FROM invites "
        f"WHERE {span.of('ts')} AND kind IN {INVITE_STEPS} AND {chosen} "
        "GROUP BY day, loop, inviter, locale, side"
    )


_FIRST = (
    "Tuple(ts DateTime64(3, \\'UTC\\'), version Int32, variation String, locale String, "
    "attributes Array(Tuple(name String, value String)))"
)


def unit_exposures(frontier: Frontier | None, chosen: str = "1") -> str:
    first = f"CAST(min((ts, version, variation, locale, attributes)), '{_FIRST}')"
    # Without a frontier, grouped by the table's own order alone, which takes next to no memory.
    by_side = "" if frontier is None else ", side"
    return (
        f"SELECT experiment, unit, {first} AS first, "
        "max(ts) AS last_ts, arraySort(groupUniqArray(variation)) AS variations, count() AS n, "
        f"{side(topics.EXPOSURES.name, frontier)} AS side FROM exposures WHERE {chosen} "
        f"GROUP BY experiment, unit{by_side}"
    )


def second(at: datetime) -> str:
    """A literal of milliseconds: against one of whole seconds, ClickHouse 26.9 reads its indexes
    with `ts <= 11:59:59` for `ts < 12:00:00`, and leaves out what lies between.
    """
    return f"toDateTime64({int(at.timestamp())}, 3, 'UTC')"
