"""The rows that a report's statistics are added up from: a branch of UNION ALL for each table.

All branches have the same columns: the unit, what exposures say of it, then the raw columns. What a
table does not know is neutral to the aggregates that follow: no exposures, the latest `since`.

Units are grouped by a hash of 64 bits, which costs half as much as their names: of two million
units, two have the same once in ten million reports. Whether a unit saw one variation is told by
the lowest and highest hash of those it saw.
"""

# ruff: noqa: S608  # names are ours; what people gave is in parameters

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from analysis.unit_statistics import BY_LOCALE, Multiple, StatisticsRequest
from sinks.unit_columns import PAST_DAYS, Raw, Table, What

SAMPLED_UNITS = 64

_OF_EXPERIMENT = "experiment = {experiment:String}"
_HOUR_MS = 3_600_000
_GREATEST = (1 << 64) - 1
_NEUTRAL = (
    f"toDateTime64('2261-01-01 00:00:00.000', 3, 'UTC') AS since, {_GREATEST} AS lowest, "
    "toUInt64(0) AS highest, toUInt64(0) AS exposures"
)


def place_of(variation: str) -> str:
    """In the request's list, from 1; 0 stands for one that is not in it."""
    return f"toUInt8(indexOf({{variations:Array(String)}}, {variation}))"


_SEEN_PLACES = (
    f"arrayJoin(arrayDistinct(arrayMap(key -> {place_of('key')}, "
    "groupUniqArrayArray(variations)))) AS place"
)


class Parameters:
    """What a query is given beside its text, so that nothing that people wrote is part of it."""

    def __init__(self, request: StatisticsRequest) -> None:
        self.values: dict[str, Any] = {
            "experiment": request.experiment,
            "variations": list(request.variations),
        }

    def text(self, value: str) -> str:
        return f"{{{self._named(value)}:String}}"

    def moment(self, moment: datetime) -> str:
        """With its milliseconds: for a time in whole seconds, the engine skips the wrong parts."""
        name = self._named(round(moment.timestamp() * 1000))
        return f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')"

    def _named(self, value: str | int) -> str:
        name = f"given_{len(self.values)}"
        self.values[name] = value
        return name


class Branches:
    def __init__(
        self, request: StatisticsRequest, given: Parameters, *, sampled: bool = False
    ) -> None:
        """`sampled`: of a few units instead of all."""
        self._request = request
        self._given = given
        self._sampled = sampled
        self._by_place = request.multiple is Multiple.BOTH
        self.keys = "unit_hash, place" if self._by_place else "unit_hash"
        plain = request.multiple is Multiple.EXCLUDE and request.by is None
        self.has_first_key = not plain or request.versions is not None
        """Whether the column is there: it costs a tenth of a report that does not need it."""
        self._neutral = _NEUTRAL + (", '~' AS first_key" if self.has_first_key else "")

    def of(self, raws: Sequence[Raw]) -> str:
        branches: dict[Table, Callable[[Table, str], str]] = {
            Table.COHORT: self._cohort,
            Table.UNIT_METRICS: self._unit_metrics,
            Table.TURNS: self._naming_exposures,
            Table.INVITES: self._naming_exposures,
            Table.EXPOSURES: self._exposures,
            Table.OUTCOMES: self._outcomes,
        }
        tables = dict.fromkeys([Table.COHORT, *(raw.table for raw in raws)])
        return " UNION ALL ".join(
            branches[table](table, self._raw_columns(table, raws)) for table in tables
        )

    def first_key(self) -> str:
        """Of a row of unit_exposures: a text that sorts as its `first` does.

        `first` is the least of its fields in their order, so the least text is that of the first
        exposure, and costs a third as much. It tells version, variation and segment.
        """
        return (
            "concat(leftPad(hex(toUnixTimestamp64Milli(first.ts)), 16, '0'), "
            "leftPad(hex(toUInt32(first.version)), 8, '0'), first.variation, '\\0', "
            f"{self.segment()})"
        )

    def packed_key(self) -> str:
        """The same without the variation, for units that saw one: 12 bytes, then the segment."""
        # Moved by 2 to the 62, so that times before 1970 come before later ones, too.
        at = f"byteSwap(toUnixTimestamp64Milli(first.ts) + {1 << 62})"
        version = "byteSwap(toUInt32(first.version))"
        return (
            f"concat(reinterpretAsFixedString({at}), reinterpretAsFixedString({version}), "
            f"{self.segment()})"
        )

    def key(self) -> str:
        """Of the two, the one that the request needs."""
        is_packed = self._request.multiple is Multiple.EXCLUDE
        return self.packed_key() if is_packed else self.first_key()

    def segment(self) -> str:
        """Of a row of unit_exposures."""
        if self._request.by is None:
            return "''"
        if self._request.by == BY_LOCALE:
            return "first.locale"
        name = self._given.text(self._request.by)
        return f"arrayFirst(pair -> pair.1 = {name}, first.attributes).2"

    def _cohort(self, table: Table, raws: str) -> str:
        key = f", {self.key()} AS first_key" if self.has_first_key else ""
        rows = f"FROM unit_exposures WHERE {_OF_EXPERIMENT}{self._only('unit')}"
        if not self._by_place:
            return (
                "SELECT unit_hash, first.ts AS since, lowest_variation AS lowest, "
                f"highest_variation AS highest, n AS exposures{key}{raws} {rows}"
            )
        units = (
            "SELECT unit_hash, min(first.ts) AS since, min(lowest_variation) AS lowest, "
            "max(highest_variation) AS highest, sum(n) AS exposures, "
            f"min({self.key()}) AS first_key, {_SEEN_PLACES} {rows} GROUP BY unit_hash"
        )
        return (
            f"SELECT unit_hash, place, since, lowest, highest, exposures, first_key{raws} "
            f"FROM ({units})"
        )

    def _unit_metrics(self, table: Table, raws: str) -> str:
        return (
            f"SELECT unit_hash{self._place('variation')}, {self._neutral}{raws} "
            f"FROM unit_metrics WHERE {_OF_EXPERIMENT}{self._only('unit')}"
        )

    def _naming_exposures(self, table: Table, raws: str) -> str:
        """Turns and invites say under which exposures they happened."""
        name = "turn_metrics" if table is Table.TURNS else "invites"
        events = (
            f"SELECT *, exposed.3 AS variation, exposed.4 AS unit FROM {name} "
            f"ARRAY JOIN exposures AS exposed WHERE exposed.1 = {{experiment:String}}"
            f"{self._only('exposed.4')}{self._not_before()}"
        )
        if " event." not in raws:
            return (
                f"SELECT cityHash64(unit) AS unit_hash{self._place('variation')}, "
                f"{self._neutral}{raws} FROM ({events})"
            )
        return self._joined(f"({events})", self._place("event.variation"), raws)

    def _exposures(self, table: Table, raws: str) -> str:
        events = (
            f"(SELECT unit, variation, ts FROM exposures WHERE {_OF_EXPERIMENT}"
            f"{self._only('unit')}{self._not_before()})"
        )
        return self._joined(events, self._place("event.variation"), raws)

    def _outcomes(self, table: Table, raws: str) -> str:
        """They name their unit alone, and count from its first exposure on: in all variations of
        a unit that is kept in several."""
        events = (
            "(SELECT unit, ts, values FROM outcomes WHERE 1"
            f"{self._only('unit')}{self._not_before(timedelta(days=PAST_DAYS))})"
        )
        return self._joined(events, ", cohort.place AS place" if self._by_place else "", raws)

    def _joined(self, events: str, place: str, raws: str) -> str:
        seen = f", {_SEEN_PLACES}" if "cohort.place" in place else ""
        units = (
            f"SELECT unit_hash, min(first.ts) AS since{seen} FROM unit_exposures "
            f"WHERE {_OF_EXPERIMENT}{self._only('unit')} GROUP BY unit_hash"
        )
        return (
            f"SELECT cohort.unit_hash AS unit_hash{place}, {self._neutral}{raws} "
            f"FROM {events} AS event INNER JOIN ({units}) AS cohort "
            "ON cityHash64(event.unit) = cohort.unit_hash"
        )

    def _place(self, variation: str) -> str:
        return f", {place_of(variation)} AS place" if self._by_place else ""

    def _only(self, unit: str) -> str:
        if not self._sampled:
            return ""
        return (
            f" AND {unit} IN (SELECT unit FROM unit_exposures WHERE {_OF_EXPERIMENT} "
            f"LIMIT {SAMPLED_UNITS})"
        )

    def _not_before(self, earlier: timedelta = timedelta()) -> str:
        """No unit of the period does anything under an exposure before the period."""
        since = self._request.since
        return "" if since is None else f" AND ts >= {self._given.moment(since - earlier)}"

    def _raw_columns(self, table: Table, raws: Sequence[Raw]) -> str:
        columns = [
            self._raw(raw) if raw.table is table else ("0." if not raw.is_whole else "toInt64(0)")
            for raw in raws
        ]
        return "".join(f", {column} AS r{index}" for index, column in enumerate(columns))

    def _raw(self, raw: Raw) -> str:
        source, counts = raw.source, raw.what is What.COUNT
        match raw.table:
            case Table.COHORT:
                return "toInt64(n)" if not self._by_place else "toInt64(exposures)"
            case Table.UNIT_METRICS:
                return "toInt64(n)" if counts else f"{source.turn}_sum"
            case Table.TURNS:
                return f"toInt64(if({_within(raw)}, {1 if counts else f'event.{source.turn}'}, 0))"
            case Table.EXPOSURES:
                return f"toInt64({_within(raw)})"
            case Table.INVITES:
                return f"toInt64({self._is_step(raw)})"
            case Table.OUTCOMES:
                return self._outcome(raw)

    def _is_step(self, raw: Raw) -> str:
        invite = raw.source.invite
        assert invite is not None
        event = "" if raw.window_hours is None else "event."
        wanted = f"{event}kind = {self._given.text(invite.step)}"
        if invite.loop is not None:
            wanted += f" AND {event}loop = {self._given.text(invite.loop)}"
        return wanted if raw.window_hours is None else f"{wanted} AND {_within(raw)}"

    def _outcome(self, raw: Raw) -> str:
        name = self._given.text(str(raw.source.outcome))
        nothing = "toInt64(0)"
        match raw.what:
            case What.SUM:
                found, nothing = f"arraySum(v -> if(v.1 = {name}, v.2, 0.), event.values)", "0."
            case What.COUNT:
                found = f"toInt64(arrayCount(v -> v.1 = {name}, event.values))"
            case What.NONZERO:
                found = f"toInt64(arrayCount(v -> v.1 = {name} AND v.2 != 0, event.values))"
        return f"if({_within(raw)}, {found}, {nothing})"


def _within(raw: Raw) -> str:
    """Whether an event is in the time of the unit that counts."""
    if raw.past:
        return f"event.ts < cohort.since AND event.ts >= cohort.since - toIntervalDay({PAST_DAYS})"
    after = "event.ts >= cohort.since"
    if raw.window_hours is None:
        return after
    window_ms = round(raw.window_hours * _HOUR_MS)
    return f"{after} AND event.ts < cohort.since + toIntervalMillisecond({window_ms})"
