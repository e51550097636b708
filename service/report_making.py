"""Makes a report: asks for the units, the health of the data and its freshness, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from analysis.health import freshness
from analysis.health_summary import Observed, data_health
from analysis.health_weights import weights
from analysis.report import ReportOptions, Subject, report_of
from analysis.report_document import (
    AppliedOffset,
    FreshnessAnswer,
    OriginAnswer,
    Report,
)
from analysis.report_metrics import select
from analysis.unit_statistics import BY_LOCALE, StatisticsRequest
from service.expected_shares import shares_by_version
from service.experiment_history import comparable, ran_its_time, splits
from service.ingestion import Ingestion
from service.query_cache import Offsets
from service.reported_experiments import CataloguedMetric, Reported, ReportedExperiments
from service.reports import ReportQuestion
from service.stats import FreshnessReport, freshness_of
from sinks.report_health import HealthQuestion, ReportHealth
from sinks.unit_statistics import UnitStatisticsReader

CODE_VERSION = version("anabranch")
LOOK_SECONDS = 2.0
"""The look at freshness that the cache took just before does for the report as well."""


class ReportMaker:
    def __init__(
        self,
        experiments: ReportedExperiments,
        units: UnitStatisticsReader,
        health: ReportHealth,
        ingestion: Ingestion,
    ) -> None:
        self._experiments = experiments
        self._units = units
        self._health = health
        self._ingestion = ingestion

    async def make(
        self,
        asked: ReportQuestion,
        experiment: Reported,
        catalogue: Mapping[str, CataloguedMetric],
        offsets: Offsets,
    ) -> Report:
        definition, key = experiment.definition, asked.experiment
        metrics = {name: one.metric for name, one in catalogue.items()}
        history = self._experiments.history(experiment)
        selected = select(definition, metrics, asked.metrics or ())
        request = StatisticsRequest(
            experiment=key,
            variations=tuple(variation.key for variation in definition.variations),
            metrics={one.key: one.metric for one in selected.metrics},
            since=asked.since,
            until=asked.until,
            versions=None if asked.since or asked.until else comparable(history),
            multiple=asked.multiple,
            by=asked.by,
        )
        now = datetime.now(UTC)
        health = HealthQuestion(
            *(key, request.metrics, now.date(), asked.since, asked.until, asked.by or BY_LOCALE)
        )
        statistics, observed, seen = await asyncio.gather(
            self._units.of(request), self._health.of(health), self._ingestion.look(LOOK_SECONDS)
        )
        fresh = freshness_of(seen)
        judged = data_health(
            *(observed, shares_by_version(history, now), request.variations[0]),
            *(fresh.lag_seconds, fresh.pending),
        )
        judged += [weights(observed.arrivals, splits(history), request.versions)]
        subject = Subject(
            definition,
            experiment.version,
            experiment.status.value,
            now,
            _freshness(fresh, observed),
            judged,
            ran_its_time(history, now),
        )
        options = ReportOptions(
            level=asked.level,
            family=asked.family,
            correction=asked.correction,
            shown=frozenset(asked.metrics or ()),
        )
        # In a thread: of many segments it takes long enough for other requests to notice.
        report = await asyncio.to_thread(report_of, subject, selected, statistics, options)
        return report.model_copy(update={"origin": _origin(experiment, offsets)})

    async def situation(self) -> Hashable:
        """Whether events are held up, which changes no offset; and the hour, since a report says
        how long the experiment has been running."""
        seen = await self._ingestion.look()
        fresh = freshness_of(seen)
        verdict = freshness(fresh.lag_seconds, fresh.pending).verdict
        return verdict, int(seen.at.timestamp()) // 3_600


def _freshness(fresh: FreshnessReport, observed: Observed) -> FreshnessAnswer:
    return FreshnessAnswer(
        watermark=fresh.watermark,
        applied_at=fresh.applied_at,
        lag_seconds=fresh.lag_seconds,
        late_events=observed.late,
        dead_letters=observed.dead.total,
    )


def _origin(experiment: Reported, offsets: Offsets) -> OriginAnswer:
    return OriginAnswer(
        definition_version=experiment.version,
        code_version=CODE_VERSION,
        offsets=tuple(AppliedOffset(**one._asdict()) for one in offsets),
    )
