"""Questions about the health of an experiment.

Units are grouped by their hash, as those of a report are (sinks/statistics_branches.py).
"""

# ruff: noqa: S608  # names are ours; what people gave is in parameters

from __future__ import annotations

from collections.abc import Mapping

from analysis.health_effects import FIRST_DAYS
from schemas.topics import OUTCOMES

MOST_SEGMENTS = 200
OTHER_SEGMENTS = "other"
"""All but the largest."""


def _in_period(column: str) -> str:
    since, until = "{since:DateTime64(3, 'UTC')}", "{until:DateTime64(3, 'UTC')}"
    return f"{column} >= {since} AND {column} < {until}"


def _met(segment: str) -> str:
    """Units of the period, from parts that may not be merged, with what they met first. Of two
    variations in one millisecond it may be either, which a report's own order costs half as much
    again to tell."""
    return (
        "SELECT unit_hash AS id, min(first.ts) AS since, sum(n) AS times, "
        "argMin(first.version, first.ts) AS version, "
        "argMin(first.variation, first.ts) AS variation, "
        f"argMin({segment}, first.ts) AS segment, "
        "min(lowest_variation) != max(highest_variation) AS saw_several "
        "FROM unit_exposures WHERE experiment = {experiment:String} GROUP BY id "
        f"HAVING {_in_period('since')}"
    )


def arrivals(segment: str) -> str:
    """Of very many segments, the smaller ones count as one, so that the answer has a bound.

    `segment` is what it is of a row of unit_exposures.
    """
    arrived = (
        "SELECT version, toDate(since) AS day, segment, variation, count() AS units, "
        "countIf(saw_several) AS several, sum(times) AS shown, "
        "toUnixTimestamp64Milli(min(met.since)) AS began "
        f"FROM ({_met(segment)}) AS met GROUP BY version, day, segment, variation"
    )
    sized = f"SELECT *, sum(units) OVER (PARTITION BY segment) AS size FROM ({arrived})"
    ranked = f"SELECT *, dense_rank() OVER (ORDER BY size DESC, segment) AS place FROM ({sized})"
    return (
        f"SELECT version, day, if(place <= {MOST_SEGMENTS}, segment, '{OTHER_SEGMENTS}') AS named, "
        "variation, sum(units), sum(several), sum(shown), min(began) "
        f"FROM ({ranked}) GROUP BY version, day, named, variation "
        "ORDER BY version, day, named, variation"
    )


LATENESS = f"""
SELECT
    (SELECT sum(events) FROM restatements WHERE topic IN {{topics:Array(String)}}
        AND {_in_period("toDateTime64(window, 3, 'UTC')")}),
    (SELECT sum(rows) FROM batches WHERE topic IN {{topics:Array(String)}}
        AND max_ts >= {{since:DateTime64(3, 'UTC')}} AND min_ts < {{until:DateTime64(3, 'UTC')}})
"""

# A letter that came out of its topic again and was stored is not missing any more.
_LETTERS = f"""
FROM dead_letters GLOBAL LEFT ANTI JOIN (
    SELECT topic, partition, epoch, offset FROM dead_letter_marks WHERE mark = 'applied'
) AS applied USING (topic, partition, epoch, offset)
WHERE topic IN {{topics:Array(String)}} AND {_in_period("timestamp")}
"""
# Texts lie in Avro as they are: a readable letter without the key in it is not the experiment's.
_HAS_KEY = "position(assumeNotNull(value), {experiment:String}) > 0"
_IS_READABLE = f"reason IN {{readable:Array(String)}} AND topic != '{OUTCOMES.name}'"
DEAD = f"""
SELECT topic, countIf({_IS_READABLE} AND {_HAS_KEY}), countIf(NOT ({_IS_READABLE})) {_LETTERS}
GROUP BY topic
"""
NAMED = f"""
SELECT value {_LETTERS} AND {_IS_READABLE} AND {_HAS_KEY}
    AND cityHash64(partition, epoch, offset) % {{step:UInt64}} = 0
"""
TURNS = """
SELECT sum(n) FROM unit_metrics WHERE experiment = {experiment:String}
    AND day >= toDate({since:DateTime64(3, 'UTC')})
    AND toDate32(day) <= toDate32({until:DateTime64(3, 'UTC')})
"""


def lasting(segment: str, turns: Mapping[str, str]) -> str:
    """Of units that took turns and were exposed longer ago than the first days: per day, later and
    first. The others have zeros, which need no query."""
    early = (
        f"SELECT id, variation, toDate(since) AS met_day "
        f"FROM ({_met(segment)}) WHERE NOT saw_several AND toDate(since) < {{enough:Date}}"
    )
    in_first = f"day < met_day + {FIRST_DAYS}"
    days = f"(toDate({{today:Date}}) - any(met_day) - {FIRST_DAYS})"
    per_day, figures = [], []
    for i, turn in enumerate(turns.values()):
        per_day.append(f"sumIf({turn}_sum, {in_first}) / {FIRST_DAYS} AS first{i}")
        per_day.append(f"sumIf({turn}_sum, NOT {in_first}) / {days} AS later{i}")
        figures.append(
            f"avg(later{i}), avg(first{i}), varSampStable(later{i}), varSampStable(first{i}), "
            f"covarSampStable(later{i}, first{i})"
        )
    turn_columns = ", ".join(f"{turn}_sum" for turn in sorted(set(turns.values())))
    return (
        f"SELECT variation, count(), {', '.join(figures)} FROM ("
        f"SELECT id, any(variation) AS variation, {', '.join(per_day)} FROM ("
        f"SELECT unit_hash AS id, day, {turn_columns} FROM unit_metrics "
        "WHERE experiment = {experiment:String} AND day < {today:Date}) AS done "
        f"GLOBAL INNER JOIN ({early}) AS early USING id GROUP BY id) "
        "GROUP BY variation ORDER BY variation"
    )
