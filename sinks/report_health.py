"""What the health of an experiment is judged by: who came, what was late, what was given up."""

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
from sinks.health_sql import DEAD, LATENESS, NAMED, TURNS, arrivals, lasting
from sinks.letter_reading import READABLE, carries
from sinks.limited_queries import LimitedQueries
from sinks.statistics_branches import Branches, Parameters

TOPICS = (EXPOSURES.name, TURN_METRICS.name, INVITES.name, OUTCOMES.name)
MOST_LETTERS = 1_000
"""Of each topic, about so many dead letters are decoded; of more, a sample stands for all."""

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
        segment = _Segment(asked)
        rows = await self._rows(arrivals(segment.sql), segment.given(asked))
        found: defaultdict[tuple[int, date, str], dict[str, int]] = defaultdict(dict)
        for version, day, named, variation, units, *_ in rows:
            found[version, day, named][variation] = units
        began = min((row[7] for row in rows), default=None)
        if asked.since is None and began is not None:
            # What came before the experiment's first unit says nothing of it.
            asked = asked._replace(since=datetime.fromtimestamp(began / 1000, UTC))
        (late, events), dead, lasting = await asyncio.gather(
            self._lateness(asked),
            self._dead(asked),
            self._lasting(asked, segment, rows),
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
        ((late, events),) = await self._rows(LATENESS, _given(asked))
        return late, events

    async def _dead(self, asked: HealthQuestion) -> DeadLetters:
        given = {**_given(asked), "readable": list(READABLE)}
        own: Counter[str] = Counter()
        unreadable = 0
        for topic, named, others in await self._rows(DEAD, given):
            unreadable += others
            if named:
                own[topic] = await self._carrying(topic, named, asked.experiment, given)
        turns = own[TURN_METRICS.name]
        return DeadLetters(
            of_experiment=own[EXPOSURES.name],
            unreadable=unreadable,
            turns=turns,
            invites=own[INVITES.name],
            turns_stored=(await self._rows(TURNS, given))[0][0] if turns else 0,
        )

    async def _carrying(
        self, topic: str, named: int, experiment: str, given: Mapping[str, object]
    ) -> int:
        """How many of the letters that have the experiment's key in them are events of it."""
        step = -(-named // MOST_LETTERS)
        letters = await self._rows(NAMED, {**given, "topics": [topic], "step": step})

        def carried() -> int:
            return sum(carries(topic, value, experiment) for (value,) in letters)

        return round(await asyncio.to_thread(carried) * named / max(1, len(letters)))

    async def _lasting(
        self, asked: HealthQuestion, segment: _Segment, arrived: Sequence[Sequence[Any]]
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
        given = {**segment.given(asked), "today": asked.today, "enough": enough}
        found: dict[str, dict[str, JointMoments]] = {key: {} for key in turns}
        for variation, units, *figures in await self._rows(lasting(segment.sql, turns), given):
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


class _Segment:
    """What a segment is of a row of unit_exposures, with the parameters that this needs."""

    def __init__(self, asked: HealthQuestion) -> None:
        request = StatisticsRequest(asked.experiment, (), {}, by=asked.by)
        self._parameters = Parameters(request)
        self.sql = Branches(request, self._parameters).segment()

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
