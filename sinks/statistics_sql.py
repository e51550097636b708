"""The query that a report's statistics come from, from the inside out:

1. *Rows* of each table (sinks/statistics_branches.py).
2. *Units*: grouped, so that parts which the engine has not merged yet are added here.
3. *Sums*: of the period's units, by variation and segment, with the products that the metrics need.
"""

# ruff: noqa: S608  # names are ours; what people gave is in parameters

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.unit_statistics import Multiple, StatisticsRequest
from sinks.statistics_branches import Branches, Parameters, place_of
from sinks.unit_columns import Columns, Sum, Value, columns_of

MOST_SEGMENTS = 200
MULTIPLE = -1
"""The variation of units that saw several, where those are left out."""

_FIRST_VERSION = "reinterpretAsUInt32(reverse(unhex(substring(first_key, 17, 8))))"
_FIRST_VARIATION = "substring(first_key, 25, position(first_key, '\\0') - 25)"
_SEGMENT = "substring(first_key, position(first_key, '\\0') + 1)"
"""Of the text that `Branches.first_key` makes."""
_PACKED_VERSION = "reinterpretAsUInt32(reverse(substring(first_key, 9, 4)))"
_PACKED_SEGMENT = "substring(first_key, 13)"
"""Of `Branches.packed_key`."""
_ONLY_VARIATION = "indexOf(arrayMap(key -> cityHash64(key), {variations:Array(String)}), lowest)"
_SAW_SEVERAL = "lowest != highest"


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """Numbers that the sums start from, by the place of a value."""

    shifts: Mapping[int, float] = field(default_factory=dict)
    """Squares about a number near the mean keep the variance of large values near each other."""
    caps: Mapping[int, float] = field(default_factory=dict)
    """What percentiles came to."""


def preparation(request: StatisticsRequest, columns: Columns) -> Query | None:
    """The means of values that are no whole numbers, and the percentiles that cap values.

    Means of a few units do for shifts: a unit is hardly ever further from the mean than 1,000
    standard deviations (Chebyshev), and from there 6 of 16 digits are lost. Percentiles take all.
    """
    shifted, capped = columns.shifted(), _capped(columns)
    if not shifted and not capped:
        return None
    given = Parameters(request)
    values = _values(columns, Known())
    parts = [f"avg(toFloat64({values[index]}))" for index in shifted]
    parts += [f"toFloat64(quantileExact({p!r})({values[index]}))" for index, p in capped.items()]
    found = _units(request, columns, given, sampled=not capped)
    return Query(
        f"SELECT {', '.join(parts)} FROM {found} AND {_variation(request)} > 0",
        given.values,
    )


def known_from(row: Sequence[Any], columns: Columns) -> Known:
    """From the answer to `preparation`."""
    shifted, capped = columns.shifted(), _capped(columns)
    caps = {index: float(cap) for index, cap in zip(capped, row[len(shifted) :], strict=True)}
    shifts = {}
    for index, mean in zip(shifted, row[: len(shifted)], strict=True):
        shift = min(float(mean), caps.get(index, float(mean)))
        # Infinite values have no verdict in the end; no units have no mean.
        shifts[index] = shift if abs(shift) < float("inf") else 0.0
    return Known(shifts, {index: cap for index, cap in caps.items() if abs(cap) < float("inf")})


def most_rows(request: StatisticsRequest) -> int:
    """Of the sums. So many have more than MOST_SEGMENTS segments in any case: a segment has a row
    for each variation, for unknown ones, and for units that saw several."""
    return (MOST_SEGMENTS + 1) * (len(request.variations) + 2)


def sums(request: StatisticsRequest, columns: Columns, known: Known) -> Query:
    """By variation and segment: units, exposures, units that saw several, first and last arrival in
    ms, then the sums in their order."""
    given = Parameters(request)
    aggregates = ["count()", "sum(exposures)", f"countIf({_counted(request)})"]
    aggregates += [f"toUnixTimestamp64Milli({which}(since))" for which in ("min", "max")]
    values = _values(columns, known)
    aggregates += [_sum(one, values, columns, known) for one in columns.sums()]
    keys = "variation" if request.by is None else "variation, segment"
    return Query(
        f"SELECT {_variation(request)} AS variation, {_segment(request)} AS segment, "
        f"{', '.join(aggregates)} FROM {_units(request, columns, given)} "
        f"GROUP BY {keys} LIMIT {most_rows(request)}",
        given.values,
    )


def unknown_variations(request: StatisticsRequest) -> Query:
    """Units that saw none of the request's variations, by the one they saw first."""
    given = Parameters(request)
    units = (
        "SELECT min(first.ts) AS since, sum(n) AS exposures, min(first).3 AS variation, "
        f"min({Branches(request, given).key()}) AS first_key, "
        "groupUniqArrayArray(variations) AS seen "
        "FROM unit_exposures WHERE experiment = {experiment:String} GROUP BY unit_hash"
    )
    return Query(
        f"SELECT variation, count() FROM ({units}) WHERE {_in_period(request, given)} "
        f"AND NOT arrayExists(key -> {place_of('key')} > 0, seen) "
        "GROUP BY variation ORDER BY variation",
        given.values,
    )


def units(request: StatisticsRequest, given: Parameters) -> str:
    """The units of the period: variation (its place), segment, unit_hash and since."""
    return (
        f"SELECT {_variation(request)} AS variation, {_segment(request)} AS segment, unit_hash, "
        f"since FROM {_units(request, columns_of({}), given)}"
    )


def _units(
    request: StatisticsRequest, columns: Columns, given: Parameters, *, sampled: bool = False
) -> str:
    branches = Branches(request, given, sampled=sampled)
    key = ", min(first_key) AS first_key" if branches.has_first_key else ""
    raws = "".join(f", sum(r{index}) AS r{index}" for index in range(len(columns.raws)))
    return (
        f"(SELECT {branches.keys}, min(since) AS since, min(lowest) AS lowest, "
        f"max(highest) AS highest, sum(exposures) AS exposures{key}{raws} "
        f"FROM ({branches.of(columns.raws)}) GROUP BY {branches.keys}) "
        f"WHERE {_in_period(request, given)}"
    )


def _variation(request: StatisticsRequest) -> str:
    match request.multiple:
        case Multiple.EXCLUDE:
            return f"toInt16(if({_SAW_SEVERAL}, {MULTIPLE}, toInt16({_ONLY_VARIATION})))"
        case Multiple.FIRST:
            return f"toInt16({place_of(_FIRST_VARIATION)})"
        case Multiple.BOTH:
            return "toInt16(place)"


def _counted(request: StatisticsRequest) -> str:
    """Whether a unit saw several; of its rows, where it has some, the first variation's counts."""
    if request.multiple is Multiple.BOTH:
        return f"{_SAW_SEVERAL} AND place = {place_of(_FIRST_VARIATION)}"
    return _SAW_SEVERAL


def _in_period(request: StatisticsRequest, given: Parameters) -> str:
    """Units without exposures have events alone, and are in no arm."""
    conditions = ["exposures > 0"]
    if request.since is not None:
        conditions.append(f"since >= {given.moment(request.since)}")
    if request.until is not None:
        conditions.append(f"since < {given.moment(request.until)}")
    if request.versions is not None:
        low, high = (int(version) for version in request.versions)
        is_packed = request.multiple is Multiple.EXCLUDE
        version = _PACKED_VERSION if is_packed else _FIRST_VERSION
        conditions.append(f"{version} BETWEEN {low} AND {high}")
    return " AND ".join(conditions)


def _segment(request: StatisticsRequest) -> str:
    if request.by is None:
        return "''"
    return _PACKED_SEGMENT if request.multiple is Multiple.EXCLUDE else _SEGMENT


def _values(columns: Columns, known: Known) -> Sequence[str]:
    return [_value(value, index, columns, known) for index, value in enumerate(columns.values)]


def _value(value: Value, index: int, columns: Columns, known: Known) -> str:
    raw = f"r{columns.raws.index(value.raw)}"
    if value.is_any:
        return f"toInt64({raw} != 0)"
    if value.cap is None:
        return raw
    cap = known.caps.get(index) if value.cap.absolute is None else value.cap.absolute
    if cap is None:
        return raw
    if value.is_whole:
        return f"least({raw}, toInt64({round(cap)}))"
    return f"least(toFloat64({raw}), {cap!r})"


def _sum(one: Sum, values: Sequence[str], columns: Columns, known: Known) -> str:
    factors = [one.value] if one.other is None else [one.value, one.other]
    if one.is_whole:
        return f"sum({' * '.join(f'toInt128({values[index]})' for index in factors)})"
    return f"sum({' * '.join(_shifted(index, values, columns, known) for index in factors)})"


def _shifted(index: int, values: Sequence[str], columns: Columns, known: Known) -> str:
    shift = known.shifts.get(index, 0.0)
    if columns.values[index].is_whole:
        return f"toFloat64({values[index]} - toInt64({round(shift)}))"
    return f"({values[index]} - {shift!r})"


def _capped(columns: Columns) -> dict[int, float]:
    """The percentile of each value that one caps; the past of a unit has its own."""
    return {
        index: value.cap.percentile
        for index, value in enumerate(columns.values)
        if value.cap is not None and value.cap.percentile is not None
    }
