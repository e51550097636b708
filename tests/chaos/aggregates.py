"""The tables of sums against what raw rows give, in SQL written apart from the engine's."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.sketches import bucket_sql
from tests.chaos.comparing import SHOWN, Asked

_METRICS = (
    *("turn_ms", "model_ms", "bundle_tokens", "output_tokens", "retries", "fallbacks"),
    *("tool_calls", "acts", "choices", "time_ticks"),
)
_NOBODY = "[('', toInt32(0), '', '')]"
_REFERENCE = "Array(Tuple(experiment String, version Int32, variation String, unit String))"
_EXPOSED = f"CAST(if(empty(exposures), {_NOBODY}, exposures), '{_REFERENCE}')"

_VALUES = f"""
    SELECT ts, e.experiment AS experiment, e.version AS version, e.variation AS variation,
        toString(locale) AS locale, m.1 AS metric, m.2 AS value
    FROM turn_metrics ARRAY JOIN {_EXPOSED} AS e
    ARRAY JOIN [{", ".join(f"('{name}', toFloat64({name}))" for name in _METRICS)}] AS m
    UNION ALL
    SELECT ts, toString(experiment), version, toString(variation), toString(locale),
        'exposures', 1. FROM exposures
    UNION ALL
    SELECT ts, e.experiment, e.version, e.variation, toString(locale),
        concat('invites_', kind), 1. FROM invites ARRAY JOIN {_EXPOSED} AS e
    UNION ALL
    SELECT ts, '', toInt32(0), '', '', toString(v.1), v.2
    FROM outcomes ARRAY JOIN `values` AS v
"""
_KEYS = "experiment, version, variation, locale, metric"


def _windows(table: str, start: str) -> tuple[str, str]:
    stored = f"""
        SELECT toDateTime(window, 'UTC') AS window, toString(experiment) AS experiment, version,
            toString(variation) AS variation, toString(locale) AS locale,
            toString(metric) AS metric, sum(n) AS n, sum(sum) AS total, sum(sum_sq) AS squares,
            min(min) AS least, max(max) AS most, mapSort(sumMap(histogram)) AS buckets
        FROM {table} GROUP BY ALL"""
    recomputed = f"""
        SELECT toDateTime({start}(ts), 'UTC') AS window, {_KEYS}, count() AS n,
            sum(value) AS total, sum(value * value) AS squares, min(value) AS least,
            max(value) AS most, mapSort(sumMap(map({bucket_sql("value")}, toUInt64(1)))) AS buckets
        FROM ({_VALUES}) GROUP BY ALL"""
    return stored, recomputed


_WINDOW_CHECK = (
    "a.n = b.n AND a.least = b.least AND a.most = b.most AND a.buckets = b.buckets "
    "AND abs(a.total - b.total) <= 1e-9 * abs(b.total) "
    "AND abs(a.squares - b.squares) <= 1e-9 * abs(b.squares)"
)

_UNIT_SUMS = ", ".join(f"sum({name}_sum) AS {name}" for name in _METRICS)
_RAW_SUMS = ", ".join(f"sum(toInt64({name})) AS {name}" for name in _METRICS)
_SUM_CHECK = " AND ".join(f"a.{name} = b.{name}" for name in ("n", *_METRICS))

CHECKS: tuple[tuple[str, str, tuple[str, str], str], ...] = (
    *(
        (table, f"window, {_KEYS}", _windows(table, start), _WINDOW_CHECK)
        for table, start in (
            ("metric_windows", "toStartOfMinute"),
            ("metric_hours", "toStartOfHour"),
            ("metric_days", "toStartOfDay"),
        )
    ),
    (
        "unit_metrics",
        "day, experiment, version, variation, unit",
        (
            "SELECT day, toString(experiment) AS experiment, version, "
            f"toString(variation) AS variation, unit, sum(n) AS n, {_UNIT_SUMS} "
            "FROM unit_metrics GROUP BY ALL",
            "SELECT toDate(ts) AS day, toString(e.experiment) AS experiment, e.version AS version, "
            f"toString(e.variation) AS variation, e.unit AS unit, count() AS n, {_RAW_SUMS} "
            "FROM turn_metrics ARRAY JOIN exposures AS e GROUP BY ALL",
        ),
        _SUM_CHECK,
    ),
    (
        "unit_exposures",
        "experiment, unit",
        (
            "SELECT toString(experiment) AS experiment, unit, min(first) AS f, max(last_ts) AS l, "
            "arraySort(groupUniqArrayArray(variations)) AS v, sum(n) AS n "
            "FROM unit_exposures GROUP BY ALL",
            "SELECT toString(experiment) AS experiment, unit, min((ts, version, "
            "toString(variation), toString(locale), CAST(attributes, "
            "'Array(Tuple(name String, value String))'))) AS f, max(ts) AS l, "
            "arraySort(groupUniqArray(toString(variation))) AS v, count() AS n "
            "FROM exposures GROUP BY ALL",
        ),
        "a.n = b.n AND a.l = b.l AND a.v = b.v AND a.f = b.f",
    ),
    (
        "invite_units",
        "day, loop, inviter, locale",
        (
            "SELECT day, toString(loop) AS loop, inviter, toString(locale) AS locale, "
            "sum(sent) AS s, sum(joined) AS j, sum(fvm) AS f FROM invite_units GROUP BY ALL",
            "SELECT toDate(ts) AS day, toString(loop) AS loop, inviter, "
            "toString(locale) AS locale, countIf(kind = 'sent') AS s, "
            "countIf(kind = 'joined') AS j, countIf(kind = 'fvm') AS f FROM invites GROUP BY ALL",
        ),
        "a.s = b.s AND a.j = b.j AND a.f = b.f",
    ),
)


def aggregate_differences(asked: Asked) -> Iterator[str]:
    for table, keys, (stored, recomputed), same in CHECKS:
        first_key = keys.split(", ")[0]
        joined = (
            f"FROM ({stored}) AS a FULL OUTER JOIN ({recomputed}) AS b USING ({keys}) "
            f"WHERE NOT ifNull({same}, false)"
        )
        # Without nulls a side that is missing counts as zeros, which no group has.
        settings = " SETTINGS join_use_nulls = 1"
        rows = asked(f"SELECT {keys}, * {joined} ORDER BY {first_key} LIMIT {SHOWN}{settings}")
        if rows:
            ((count,),) = asked(f"SELECT count() {joined}{settings}")
            yield f"{table}: {count} groups differ from the raw rows, the first: {rows[0]}"
