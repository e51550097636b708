"""Reports as requests have them: made once, stored under their id, and given out byte by byte."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import orjson

from analysis.corrections import Correction, Family
from analysis.report_document import Report
from analysis.unit_statistics import Multiple
from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, shortened
from service.query_answers import query_problems
from service.query_cache import KeptAnswer, Offsets, QueryCache
from service.report_settings import ReportSettings
from service.reported_experiments import (
    CataloguedMetric,
    Reported,
    ReportedExperiments,
    check_segments,
)
from sinks.limited_queries import LimitedQueries
from sinks.stored_reports import StoredReport, StoredReports

TOPICS = tuple(topic.name for topic in (EXPOSURES, TURN_METRICS, INVITES, OUTCOMES))
ID_LENGTH = 32


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    experiment: str
    since: datetime | None = None
    until: datetime | None = None
    by: str | None = None
    metrics: tuple[str, ...] | None = None
    """To show; None for those of the definition. The decision takes its own in any case."""
    multiple: Multiple = Multiple.EXCLUDE
    family: Family | None = None
    """None: all metrics and variations, each segment by itself."""
    correction: Correction = Correction.HOLM
    level: float = 0.95


class Making(Protocol):
    async def make(
        self,
        asked: ReportQuestion,
        experiment: Reported,
        catalogue: Mapping[str, CataloguedMetric],
        offsets: Offsets,
    ) -> Report:
        """Without its id."""

    async def situation(self) -> Hashable:
        """What a report says of the time it was made at, in steps; it is made anew at each."""


class Reports:
    def __init__(
        self,
        experiments: ReportedExperiments,
        maker: Making,
        stored: StoredReports,
        queries: LimitedQueries,
        settings: ReportSettings,
        metrics: ServiceMetrics,
    ) -> None:
        self._experiments = experiments
        self._maker = maker
        self._stored = stored
        self._metrics = metrics
        self._cache = QueryCache(
            *("report", TOPICS, queries, settings, metrics), tag_of=_tag, also=maker.situation
        )

    async def get(self, asked: ReportQuestion) -> KeptAnswer:
        """Raises a Problem."""
        experiment = self._experiments.find(asked.experiment)
        check_segments(experiment.definition, asked.by)
        _check_period(asked)
        catalogue = self._experiments.catalogue(experiment.definition, asked.metrics or ())

        async def make(offsets: Offsets) -> bytes:
            made = await self._maker.make(asked, experiment, catalogue, offsets)
            report = await asyncio.to_thread(identified, made)
            await self._stored.add(report)
            return report.body

        versions = tuple((key, metric.version) for key, metric in catalogue.items())
        return await self._cache.get((asked, experiment.version, experiment.status, versions), make)

    async def find(self, report_id: str) -> StoredReport:
        """Raises a Problem (404)."""
        with query_problems(self._metrics):
            found = await self._stored.find(report_id)
        if found is None:
            raise Problem(
                Kind.NOT_FOUND,
                f"no report has the id {shortened(report_id)}; it is the {ID_LENGTH} digits of "
                "the member `id` of a report, and reports are kept for 400 days",
            )
        return found

    async def close(self) -> None:
        await self._cache.close()


def identified(report: Report) -> StoredReport:
    """Under a hash of all that it holds, data and versions."""
    content = report.model_copy(update={"id": None}).model_dump_json(by_alias=True)
    report_id = hashlib.sha256(content.encode()).hexdigest()[:ID_LENGTH]
    body = report.model_copy(update={"id": report_id}).model_dump_json(by_alias=True)
    assert report.origin is not None
    return StoredReport(
        report_id,
        report.experiment,
        report.origin.definition_version,
        report.origin.code_version,
        body.encode(),
    )


def _tag(body: bytes) -> str:
    return f'"{orjson.loads(body)["id"]}"'


def _check_period(asked: ReportQuestion) -> None:
    if asked.since is not None and asked.until is not None and asked.since >= asked.until:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"from is {asked.since.isoformat()} and to is {asked.until.isoformat()}: from must "
            "come before to",
        )
