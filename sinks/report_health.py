"""What the health of an experiment is judged by: who came, what was late, what was given up."""

# ruff: noqa: S608  # names are ours; what people gave is in parameters

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from analysis.health import DeadLetters
from analysis.health_arrivals import Arrivals
from analysis.health_effects import FIRST_DAYS
from analysis.health_summary import Observed
from analysis.metric_catalogue import Metric
from analysis.moments import JointMoments
from analysis.unit_statistics import StatisticsRequest
from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from sinks.letter_reading import READABLE, carries
from sinks.limited_queries import LimitedQueries
from sinks.statistics_branches import Branches, Parameters

FIRST_VERSION = "reinterpretAsInt32(reverse(unhex(substring(first_key, 17, 8))))"
FIRST_VARIATION = "substring(first_key, 25, position(first_key, '\\0') - 25)"
SEGMENT = "substring(first_key, position(first_key, '\\0') + 1)"
"""Of the text that `Branches.first_key` makes."""

TOPICS = (EXPOSURES.name, TURN_METRICS.name, INVITES.name, OUTCOMES.name)
MOST_LETTERS = 1_000
"""Of each topic, about so many dead letters are decoded; of more, a sample stands for all."""

MOST_SEGMENTS = 200
OTHER_SEGMENTS = "other"
"""All but the largest."""

KEPT_SECONDS = 600.0

_MOST_KEPT = 1_000
_LONG_AGO, _FAR_AHEAD = datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class HealthQuestion(NamedTuple):
    experiment: str
    metrics: Mapping[str, Metric]
    """Those of turns among them are looked at for novelty."""
    today: date
    """It has not ended, so it does not count for novelty."""
    since: datetime | None = None
    """Of first exposures, and of the events that are counted."""
    until: datetime | None = None
    by: str = "locale"
    """Or an attribute of exposures."""


class ReportHealth:
    def __init__(
        self, queries: LimitedQueries, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._queries = queries
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, Mapping[str, Mapping[str, JointMoments]]]] = {}

    async def of(self, asked: HealthQuestion) -> Observed:
        """Raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused."""
        keyed = _Keyed(asked)
        rows = await self._rows(_arrivals_statement(keyed.first_key), keyed.given(asked))
        found: defaultdict[tuple[int, date, str], dict[str, int]] = defaultdict(dict)
        for version, day, segment, variation, units, *_ in rows:
            found[version, day, segment][variation] = units
        began = min((row[7] for row in rows), default=None)
        if asked.since is None and began is not None:
            # What came before the experiment's first unit says nothing of it.
            asked = asked._replace(since=datetime.fromtimestamp(began / 1000, UTC))
        (late, events), dead, lasting = await asyncio.gather(
            self._lateness(asked),
            self._dead(asked),
            self._lasting(asked, keyed, rows),
        )
        return Observed(
            arrivals=[Arrivals(*place, units) for place, units in sorted(found.items())],
            in_several=sum(row[5] for row in rows),
            exposures=sum(row[6] for row in rows),
            late=late,
            events=events,
            dead=dead,
            lasting=lasting,
        )

    async def _lateness(self, asked: HealthQuestion) -> tuple[int, int]:
        ((late, events),) = await self._rows(_LATENESS, _given(asked))
        return late, events

    async def _dead(self, asked: HealthQuestion) -> DeadLetters:
        given = {**_given(asked), "readable": list(READABLE)}
        own: Counter[str] = Counter()
        unreadable = 0
        for topic, named, others in await self._rows(_DEAD, given):
            unreadable += others
            if named:
                own[topic] = await self._carrying(topic, named, asked.experiment, given)
        turns = own[TURN_METRICS.name]
        return DeadLetters(
            of_experiment=own[EXPOSURES.name],
            unreadable=unreadable,
            turns=turns,
            invites=own[INVITES.name],
            turns_stored=(await self._rows(_TURNS, given))[0][0] if turns else 0,
        )

    async def _carrying(
        self, topic: str, named: int, experiment: str, given: Mapping[str, object]
    ) -> int:
        """How many of the letters that have the experiment's key in them are events of it."""
        step = -(-named // MOST_LETTERS)
        letters = await self._rows(_NAMED, {**given, "topics": [topic], "step": step})

        def carried() -> int:
            return sum(carries(topic, value, experiment) for (value,) in letters)

        return round(await asyncio.to_thread(carried) * named / max(1, len(letters)))

    async def _lasting(
        self, asked: HealthQuestion, keyed: _Keyed, arrived: Sequence[Sequence[Any]]
    ) -> Mapping[str, Mapping[str, JointMoments]]:
        """Kept for a while: only whole days count, and what is late changes them little."""
        turns = {
            key: metric.source.turn
            for key, metric in asked.metrics.items()
            if metric.kind == "mean" and metric.source is not None and metric.source.turn
        }
        enough = asked.today - timedelta(days=FIRST_DAYS)
        early: Counter[str] = Counter()
        for _, day, _, variation, units, several, *_ in arrived:
            early[variation] += (units - several) * (day < enough)
        if not turns or not early.total():
            return {}
        place = (asked.experiment, asked.since, asked.until, asked.today, *turns.items())
        kept_at, kept = self._kept.get(place, (-math.inf, {}))
        if self._clock() - kept_at < KEPT_SECONDS:
            return kept
        given = {**keyed.given(asked), "today": asked.today, "enough": enough}
        found: dict[str, dict[str, JointMoments]] = {key: {} for key in turns}
        for variation, units, *figures in await self._rows(
            _lasting_statement(keyed.first_key, turns), given
        ):
            # Others of them may have come in the meantime.
            idle = max(0, early[variation] - units)
            for index, key in enumerate(turns):
                later, first, of_later, of_first, both = figures[5 * index : 5 * index + 5]
                busy = JointMoments.from_covariances(
                    units, [later, first], [[of_later, both], [both, of_first]]
                )
                found[key][variation] = busy + JointMoments.of([0.0] * idle, [0.0] * idle)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[place] = self._clock(), found
        return found

    async def _rows(self, statement: str, given: Mapping[str, object]) -> Sequence[Any]:
        return await self._queries.rows(statement, given, {"value": "bytes"})


class _Keyed:
    """How `statistics_sql` finds what a unit met first, with the parameters that it needs."""

    def __init__(self, asked: HealthQuestion) -> None:
        request = StatisticsRequest(asked.experiment, (), {}, by=asked.by)
        self._parameters = Parameters(request)
        self.first_key = Branches(request, self._parameters).first_key()

    def given(self, asked: HealthQuestion) -> dict[str, object]:
        return {**self._parameters.values, **_given(asked)}


def _given(asked: HealthQuestion) -> dict[str, object]:
    return {
        "experiment": asked.experiment,
        "since": _text(asked.since or _LONG_AGO),
        "until": _text(asked.until or _FAR_AHEAD),
        "topics": list(TOPICS),
    }


def _text(at: datetime) -> str:
    # With milliseconds: the engine prunes wrongly where a DateTime64 meets whole seconds.
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _in_period(column: str) -> str:
    since, until = "{since:DateTime64(3, 'UTC')}", "{until:DateTime64(3, 'UTC')}"
    return f"{column} >= {since} AND {column} < {until}"


def _met(first_key: str) -> str:
    """Units of the period, from parts that may not be merged; as `statistics_sql` finds them."""
    return (
        "SELECT sipHash128(unit) AS id, min(first.ts) AS since, sum(n) AS times, "
        f"min({first_key}) AS first_key, "
        "min(arrayMin(variations)) != max(arrayMax(variations)) AS saw_several "
        "FROM unit_exposures WHERE experiment = {experiment:String} GROUP BY id "
        f"HAVING {_in_period('since')}"
    )


def _arrivals_statement(first_key: str) -> str:
    """Of very many segments, the smaller ones count as one, so that the answer has a bound."""
    arrived = (
        f"SELECT {FIRST_VERSION} AS version, toDate(since) AS day, {SEGMENT} AS segment, "
        f"{FIRST_VARIATION} AS variation, count() AS units, countIf(saw_several) AS several, "
        f"sum(times) AS shown, toUnixTimestamp64Milli(min(met.since)) AS began "
        f"FROM ({_met(first_key)}) AS met GROUP BY version, day, segment, variation"
    )
    sized = f"SELECT *, sum(units) OVER (PARTITION BY segment) AS size FROM ({arrived})"
    ranked = f"SELECT *, dense_rank() OVER (ORDER BY size DESC, segment) AS place FROM ({sized})"
    return (
        f"SELECT version, day, if(place <= {MOST_SEGMENTS}, segment, '{OTHER_SEGMENTS}') AS named, "
        "variation, sum(units), sum(several), sum(shown), min(began) "
        f"FROM ({ranked}) GROUP BY version, day, named, variation "
        "ORDER BY version, day, named, variation"
    )


_LATENESS = f"""
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
_DEAD = f"""
SELECT topic, countIf({_IS_READABLE} AND {_HAS_KEY}), countIf(NOT ({_IS_READABLE})) {_LETTERS}
GROUP BY topic
"""
_NAMED = f"""
SELECT value {_LETTERS} AND {_IS_READABLE} AND {_HAS_KEY}
    AND cityHash64(partition, epoch, offset) % {{step:UInt64}} = 0
"""
_TURNS = """
SELECT sum(n) FROM unit_metrics WHERE experiment = {experiment:String}
    AND day >= toDate({since:DateTime64(3, 'UTC')})
    AND toDate32(day) <= toDate32({until:DateTime64(3, 'UTC')})
"""


def _lasting_statement(first_key: str, turns: Mapping[str, str]) -> str:
    """Of units that took turns and were exposed longer ago than the first days: per day, later and
    first. The others have zeros, which need no query."""
    early = (
        f"SELECT id, {FIRST_VARIATION} AS variation, toDate(since) AS met_day "
        f"FROM ({_met(first_key)}) WHERE NOT saw_several AND toDate(since) < {{enough:Date}}"
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
        f"SELECT sipHash128(unit) AS id, day, {turn_columns} FROM unit_metrics "
        "WHERE experiment = {experiment:String} AND day < {today:Date}) AS done "
        f"GLOBAL INNER JOIN ({early}) AS early USING id GROUP BY id) "
        "GROUP BY variation ORDER BY variation"
    )
