"""How the sums over an experiment's units grew, step by step, in one query.

A report at the end of a step takes the units so far, and the sums of their values and of squares
and products of these. None of them is computed step by step. A unit whose value goes from `b` to
`c` in a step adds c - b to the sum and c * c - b * b to the sum of squares: each unit tells what it
adds in the few steps in which it did something, and that adds up over steps (analysis/series.py).
Numbers are whole, of 128 bits and their products of 256: fractions are counted in parts of a power
of two, as small as that allows, which is finer than a float for all but the largest values.
"""

# ruff: noqa: S608  # names are ours; what people gave is in parameters

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from analysis.metric_catalogue import Metric
from analysis.series import WHOLE, Added, Bits, Sums
from analysis.unit_statistics import BY_LOCALE
from sinks.limited_queries import LimitedQueries, milliseconds, moment
from sinks.unit_columns import Raw, Table, Value, What, columns_of

Step = Literal["minute", "hour", "day", "days_since_exposure"]
_START_OF = {"minute": "toStartOfMinute", "hour": "toStartOfHour", "day": "toStartOfDay"}
_HOUR_MS = 3_600_000
_SUM_BITS = 118
"""Of the 127 that a unit's sum has; the others are for events that come in between."""
_USUAL_BITS = 60  # where there is no value yet: fits a quadrillion
_MOST_BITS = 1_000  # of what a float can be multiplied by
_NO_CAP = 2**126  # more than any sum


class Growth(NamedTuple):
    added: list[Added]
    bits: Bits = WHOLE


@dataclass(frozen=True, slots=True)
class SeriesQuestion:
    experiment: str
    variations: tuple[str, ...]
    metric: Metric
    """Of any kind but `quantile`, and without a cap that is a percentile."""
    step: Step
    begin: datetime
    """Of first exposures: from here on."""
    until: datetime | None
    """Of first exposures; not included."""
    today: date
    """The day that is not over yet."""
    by: str | None
    most: int
    """Rows; there are more when one more comes back."""
    versions: tuple[int, int] | None = None
    """Of the definition that decided the first exposure: from and to, both included."""


async def first_exposure(queries: LimitedQueries, experiment: str) -> datetime | None:
    rows = await queries.rows(
        "SELECT toUnixTimestamp64Milli(min(first.ts)), count() FROM unit_exposures "
        "WHERE experiment = {experiment:String}",
        {"experiment": experiment},
    )
    ((at_ms, count),) = rows
    return moment(at_ms) if count else None


async def experiment_series(queries: LimitedQueries, asked: SeriesQuestion) -> Growth:
    """In the order of segment, variation and step. Units that saw several variations are left out.

    Raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused.
    """
    statement = _Statement(asked)
    for place, value in enumerate(statement.values):
        if not value.is_whole:
            ((most, count),) = await queries.rows(statement.extent(place), statement.parameters)
            statement.bits[place] = _bits(most, count)
    rows = await queries.rows(statement.text(), statement.parameters)
    added = [
        Added(segment, variation, step, new, active, Sums(*figures[:5]), Sums(*figures[5:]))
        for segment, variation, step, new, active, *figures in rows
    ]
    return Growth(added, (statement.bits[0], statement.bits[1]))


def _bits(most: float, count: int) -> int:
    """So that no sum of so many values can exceed what it has room for."""
    if not most:
        return _USUAL_BITS
    return min(_SUM_BITS - math.ceil(math.log2(most)) - math.ceil(math.log2(count)), _MOST_BITS)


class _Statement:
    def __init__(self, asked: SeriesQuestion) -> None:
        self._asked = asked
        columns = columns_of({"metric": asked.metric})
        values = [columns.values[index] for index in columns.of_metrics["metric"]]
        self.values: list[Value] = [value for value in values if not value.raw.past]
        self.bits = [0, 0]
        """Of the parts that x and y are counted in."""
        self._by_age = asked.step == "days_since_exposure"
        low, high = asked.versions or (0, 0)
        self.parameters: dict[str, Any] = {
            "low": low,
            "high": high,
            "experiment": asked.experiment,
            "variations": list(asked.variations),
            "begin": milliseconds(asked.begin),
            "until": milliseconds(asked.until) if asked.until else 0,
            "today": asked.today,
            "by": asked.by or "",
            "limit": asked.most + 1,
        }

    def extent(self, place: int) -> str:
        """The greatest value of an event, and how many there are."""
        table, _, value = self._table(place, self.values[place].raw)
        return f"SELECT max(abs(toFloat64({value}))), count() FROM {table}"

    def text(self) -> str:
        """x and y are a unit's values so far, x0 and y0 those before the step, u and v those of the
        step alone; a metric that is no ratio has no y and no v."""
        figures = [
            *("x - x0", "y - y0", "x * x - x0 * x0", "x * y - x0 * y0", "y * y - y0 * y0"),
            *("u", "v", "u * u", "u * v", "v * v"),
        ]
        names = ("x", "x0", "u", "y", "y0", "v")
        placed = ", ".join(f"toInt256(s.{i}) AS {name}" for i, name in enumerate(names, start=2))
        nothing = ", ".join(f"toInt256(0) AS {name}" for name in names)
        return (
            "SELECT segment, variation, step, sum(is_new), sum(is_active), "
            f"{', '.join(f'sum({figure})' for figure in figures)} FROM ("
            f"SELECT segment, variation, {self._step_of_unit()} AS step, 1 AS is_new, "
            f"0 AS is_active, {nothing} FROM ({self._units()}) UNION ALL "
            f"SELECT segment, variation, s.1 AS step, 0 AS is_new, 1 AS is_active, {placed} "
            f"FROM (SELECT segment, variation, arrayJoin({self._steps()}) AS s "
            f"FROM ({self._sums()}))) "
            "GROUP BY segment, variation, step ORDER BY segment, variation, step "
            "LIMIT {limit:UInt32}"
        )

    def _units(self) -> str:
        # The least of `first` would do, but costs several times as much.
        earliest = "(first.ts, first.version, first.variation, first.locale)"
        segment = {None: "''", BY_LOCALE: f"argMin(first.locale, {earliest})"}.get(
            self._asked.by,
            f"arrayFirst(pair -> pair.1 = {{by:String}}, argMin(first.attributes, {earliest})).2",
        )
        wanted = "length(seen) = 1 AND has({variations:Array(String)}, seen[1])"
        wanted += " AND since >= fromUnixTimestamp64Milli({begin:Int64})"
        if self._asked.until is not None:
            wanted += " AND since < fromUnixTimestamp64Milli({until:Int64})"
        version = ""
        if self._asked.versions is not None:
            version = f", argMin(first.version, {earliest}) AS first_version"
            wanted += " AND first_version BETWEEN {low:Int32} AND {high:Int32}"
        return (
            f"SELECT unit_hash, seen[1] AS variation, segment, since FROM (SELECT "
            f"sipHash128(unit) AS unit_hash, min(first.ts) AS since, {segment} AS segment, "
            f"groupUniqArrayArray(variations) AS seen{version} FROM unit_exposures "
            f"WHERE experiment = {{experiment:String}} GROUP BY unit_hash) WHERE {wanted}"
        )

    def _step_of_unit(self) -> str:
        """By days since exposure: how many whole days it has lived through."""
        return _days("{today:Date}") if self._by_age else self._start_of("since")

    def _step_of_event(self) -> str:
        return _days("toDate(ts)") if self._by_age else self._start_of("greatest(ts, since)")

    def _start_of(self, at: str) -> str:
        return f"toInt64(toUnixTimestamp({_START_OF[self._asked.step]}({at})))"

    def _sums(self) -> str:
        """By unit, a map from steps to what it did in them."""
        branches = " UNION ALL ".join(
            self._events(place, value.raw) for place, value in enumerate(self.values)
        )
        counts = "(NOT from_first OR ts >= since)"
        counts += " AND (window_ms = 0 OR ts < since + toIntervalMillisecond(window_ms))"
        if self._by_age:
            # Today is not over; a unit of today has no whole day yet.
            counts += " AND toDate(ts) < {today:Date}"
        # The last array, for a step whose values are all zero would be left out of the map.
        return (
            "SELECT any(cohort.variation) AS variation, any(cohort.segment) AS segment, "
            f"sumMap([{self._step_of_event()}], [r0], [r1], [toInt64(1)]) AS found "
            f"FROM ({branches}) AS event "
            f"INNER JOIN ({self._units()}) AS cohort ON event.unit_hash = cohort.unit_hash "
            f"WHERE {counts} GROUP BY cohort.unit_hash"
        )

    def _events(self, place: int, raw: Raw) -> str:
        """Rows of one table: the unit, when, what; and whether it counts only after the first
        exposure, and for how long."""
        table, unit, value = self._table(place, raw)
        columns = [self._number(0, "0"), self._number(1, "0")]
        columns[place] = self._number(place, value)
        window_ms = round((raw.window_hours or 0) * _HOUR_MS)
        from_first = int(raw.window_hours is not None or raw.table is Table.OUTCOMES)
        return (
            f"SELECT sipHash128({unit}) AS unit_hash, ts, {columns[0]} AS r0, {columns[1]} AS r1, "
            f"{from_first} AS from_first, {window_ms} AS window_ms FROM {table}"
        )

    def _table(self, place: int, raw: Raw) -> tuple[str, str, str]:
        """The table with its conditions, its unit, and its value."""
        since = "ts >= fromUnixTimestamp64Milli({begin:Int64})"
        mine = "experiment = {experiment:String}"
        named = (
            f"ARRAY JOIN exposures AS exposed WHERE exposed.1 = {{experiment:String}} AND {since}"
        )
        turn, counts = raw.source.turn, raw.what is What.COUNT
        if raw.table in (Table.COHORT, Table.EXPOSURES):
            return f"exposures WHERE {mine} AND {since}", "unit", "1"
        if raw.table is Table.INVITES:
            return f"invites {named}{self._invite(place, raw)}", "exposed.4", "1"
        if raw.table is Table.OUTCOMES:
            return self._outcomes(place, raw, since)
        if raw.table is Table.UNIT_METRICS and self._asked.step in ("day", "days_since_exposure"):
            days = "SELECT unit, toDateTime64(day, 3, 'UTC') AS ts, n AS turns, "
            rows = f"({days}{turn}_sum AS total FROM unit_metrics WHERE {mine} AND "
            rows += "day >= toDate(fromUnixTimestamp64Milli({begin:Int64}, 'UTC')))"
            return rows, "unit", "turns" if counts else "total"
        return f"turn_metrics {named}", "exposed.4", "1" if counts else str(turn)

    def _invite(self, place: int, raw: Raw) -> str:
        invite = raw.source.invite
        assert invite is not None
        self.parameters |= {f"kind_{place}": invite.step, f"loop_{place}": invite.loop or ""}
        condition = f" AND kind = {{kind_{place}:String}}"
        return condition + (f" AND loop = {{loop_{place}:String}}" if invite.loop else "")

    def _outcomes(self, place: int, raw: Raw, since: str) -> tuple[str, str, str]:
        self.parameters[f"name_{place}"] = raw.source.outcome
        is_it = f"v.1 = {{name_{place}:String}}"
        value = {
            What.SUM: f"arraySum(v -> if({is_it}, v.2, 0.), values)",
            What.COUNT: f"arrayCount(v -> {is_it}, values)",
            What.NONZERO: f"arrayCount(v -> {is_it} AND v.2 != 0, values)",
        }[raw.what]
        rows = f"outcomes WHERE {since} AND arrayExists(v -> {is_it}, values)"
        return rows, "unit", value

    def _number(self, place: int, value: str) -> str:
        if place >= len(self.values) or self.values[place].is_whole:
            return f"toInt128({value})"
        return f"toInt128(round({value} * {2.0 ** self.bits[place]!r}))"

    def _steps(self) -> str:
        zipped = ["found.1"]
        for place in (0, 1):
            own = f"found.{place + 2}"
            so_far = self._mapped(place, f"arrayCumSum({own})")
            before = f"arrayPopBack(arrayPushFront({so_far}, {self._number(place, '0')}))"
            zipped += [so_far, before, self._mapped(place, own)]
        return f"arrayZip({', '.join(zipped)})"

    def _mapped(self, place: int, array: str) -> str:
        """As the metric takes what a unit did: whether it did anything, or with a cap."""
        value = self.values[place] if place < len(self.values) else None
        if value is not None and value.is_any:
            return f"arrayMap(c -> toInt64(c != 0), {array})"
        if value is not None and value.cap is not None and value.cap.absolute is not None:
            cap = min(round(value.cap.absolute * Fraction(2) ** self.bits[place]), _NO_CAP)
            return f"arrayMap(c -> least(c, toInt128('{cap}')), {array})"
        return array


def _days(until: str) -> str:
    return f"toInt64(greatest(0, dateDiff('day', toDate(since), {until})))"
