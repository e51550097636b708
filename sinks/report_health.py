"""What the health of an experiment is judged by: who came, what was late, what was given up."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from analysis.health import DeadLetters
from analysis.health_arrivals import Arrivals
from analysis.health_effects import FIRST_DAYS
from analysis.health_summary import Observed
from analysis.metric_catalogue import Metric
from analysis.moments import JointMoments
from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from sinks.clickhouse import AsyncClient, connect, typed_errors
from sinks.letter_reading import READABLE, carries
from sinks.settings import ClickHouseSettings

TOPICS = (EXPOSURES.name, TURN_METRICS.name, INVITES.name, OUTCOMES.name)
MOST_LETTERS = 1_000
"""Dead letters that are decoded; more may possibly belong to the experiment."""

_LONGEST_SECONDS = 10
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
    """Keeps a client of its own."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def of(self, asked: HealthQuestion) -> Observed:
        """Raises ClickHouseUnavailable or ClickHouseRefused."""
        rows = await self._rows(_ARRIVALS, _given(asked))
        found: defaultdict[tuple[int, date, str], dict[str, int]] = defaultdict(dict)
        for version, day, segment, variation, units, *_ in rows:
            found[version, day, segment][variation] = units
        began = min((row[7] for row in rows), default=None)
        if asked.since is None and began is not None:
            # What came before the experiment's first unit says nothing of it.
            asked = asked._replace(since=datetime.fromtimestamp(began / 1000, UTC))
        (late, events), dead, lasting = await asyncio.gather(
            self._lateness(asked), self._dead(asked), self._lasting(asked)
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

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _lateness(self, asked: HealthQuestion) -> tuple[int, int]:
        ((late, events),) = await self._rows(_LATENESS, _given(asked))
        return late, events

    async def _dead(self, asked: HealthQuestion) -> DeadLetters:
        given = {**_given(asked), "readable": list(READABLE), "most": MOST_LETTERS}
        ((named, unreadable),) = await self._rows(_DEAD, given)
        letters = await self._rows(_NAMED, given) if named else []
        own = sum(carries(topic, value, asked.experiment) for topic, value in letters)
        return DeadLetters(own, unreadable + max(0, named - len(letters)))

    async def _lasting(self, asked: HealthQuestion) -> Mapping[str, Mapping[str, JointMoments]]:
        turns = {
            key: metric.source.turn
            for key, metric in asked.metrics.items()
            if metric.kind == "mean" and metric.source is not None and metric.source.turn
        }
        if not turns:
            return {}
        enough = asked.today - timedelta(days=FIRST_DAYS)
        given = {**_given(asked), "today": asked.today, "enough": enough}
        found: defaultdict[str, dict[str, JointMoments]] = defaultdict(dict)
        for variation, units, *figures in await self._rows(_lasting_statement(turns), given):
            for index, key in enumerate(turns):
                later, first, of_later, of_first, both = figures[5 * index : 5 * index + 5]
                found[key][variation] = JointMoments.from_covariances(
                    units, [later, first], [[of_later, both], [both, of_first]]
                )
        return found

    async def _rows(self, statement: str, given: Mapping[str, object]) -> Sequence[Any]:
        with typed_errors(self._settings):
            async with self._connecting:
                if self._client is None:
                    self._client = await connect(self._settings)
            answer = await self._client.query(
                statement,
                parameters=dict(given),
                settings={"max_execution_time": _LONGEST_SECONDS},
                column_formats={"value": "bytes"},
            )
            return answer.result_rows


def _given(asked: HealthQuestion) -> dict[str, object]:
    return {
        "experiment": asked.experiment,
        "since": _text(asked.since or _LONG_AGO),
        "until": _text(asked.until or _FAR_AHEAD),
        "by": asked.by,
        "topics": list(TOPICS),
    }


def _text(at: datetime) -> str:
    # With milliseconds: the engine prunes wrongly where a DateTime64 meets whole seconds.
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


_IN_PERIOD = ">= {since:DateTime64(3, 'UTC')} AND {what} < {until:DateTime64(3, 'UTC')}"


def _in_period(column: str) -> str:
    return f"{column} {_IN_PERIOD.replace('{what}', column)}"


_MET = f"""
WITH met AS (
    SELECT unit, min(first) AS earliest, groupUniqArrayArray(variations) AS seen, sum(n) AS times
    FROM unit_exposures WHERE experiment = {{experiment:String}} GROUP BY unit
    HAVING {_in_period("earliest.ts")}
)"""  # noqa: S608  # our own parts

_ARRIVALS = f"""{_MET}
SELECT earliest.version AS version, toDate(earliest.ts) AS day,
    if({{by:String}} = 'locale', earliest.locale, tupleElement(arrayFirst(
        one -> one.name = {{by:String}}, earliest.attributes), 'value')) AS segment,
    earliest.variation AS variation, count(), countIf(length(seen) > 1), sum(times),
    toUnixTimestamp64Milli(min(earliest.ts))
FROM met GROUP BY version, day, segment, variation ORDER BY version, day, segment, variation
"""  # noqa: S608

_LATENESS = f"""
SELECT
    (SELECT sum(events) FROM restatements WHERE topic IN {{topics:Array(String)}}
        AND {_in_period("toDateTime64(window, 3, 'UTC')")}),
    (SELECT sum(rows) FROM batches WHERE topic IN {{topics:Array(String)}}
        AND max_ts >= {{since:DateTime64(3, 'UTC')}} AND min_ts < {{until:DateTime64(3, 'UTC')}})
"""  # noqa: S608

# A letter that came out of its topic again and was stored is not missing any more.
_LETTERS = f"""
FROM dead_letters GLOBAL LEFT ANTI JOIN (
    SELECT topic, partition, epoch, offset FROM dead_letter_marks WHERE mark = 'applied'
) AS applied USING (topic, partition, epoch, offset)
WHERE topic IN {{topics:Array(String)}} AND {_in_period("timestamp")}
"""  # noqa: S608
# Texts lie in Avro as they are: a readable letter without the key in it is not the experiment's.
_HAS_KEY = "position(assumeNotNull(value), {experiment:String}) > 0"
_IS_READABLE = f"reason IN {{readable:Array(String)}} AND topic != '{OUTCOMES.name}'"
_DEAD = f"""
SELECT countIf({_IS_READABLE} AND {_HAS_KEY}), countIf(NOT ({_IS_READABLE})) {_LETTERS}
"""
_NAMED = f"""
SELECT topic, value {_LETTERS} AND {_IS_READABLE} AND {_HAS_KEY} LIMIT {{most:UInt64}}
"""


def _lasting_statement(turns: Mapping[str, str]) -> str:
    """Of units that were exposed longer ago than the first days: per day, later and first."""
    first = f"day < met_day + {FIRST_DAYS}"
    sums, figures = [], []
    for index, turn in enumerate(turns.values()):
        sums.append(f"sumIf({turn}_sum, {first}) / {FIRST_DAYS} AS first{index}")
        sums.append(
            f"sumIf({turn}_sum, NOT ({first})) / (toDate({{today:Date}}) - any(met_day) - "
            f"{FIRST_DAYS}) AS later{index}"
        )
        pair = f"later{index}, first{index}"
        figures += [f"avg(later{index})", f"avg(first{index})"]
        figures += [f"varSampStable(later{index})", f"varSampStable(first{index})"]
        figures.append(f"covarSampStable({pair})")
    return f"""{_MET}
SELECT variation, count(), {", ".join(figures)} FROM (
    SELECT unit, any(met_variation) AS variation, {", ".join(sums)} FROM (
        SELECT unit, earliest.variation AS met_variation, toDate(earliest.ts) AS met_day
        FROM met WHERE length(seen) = 1 AND toDate(earliest.ts) < {{enough:Date}}
    ) AS early GLOBAL LEFT JOIN (
        SELECT * FROM unit_metrics WHERE experiment = {{experiment:String}}
            AND day < {{today:Date}}
    ) AS done USING unit GROUP BY unit
) GROUP BY variation ORDER BY variation
"""  # noqa: S608
