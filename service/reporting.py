"""Everything that answers with figures of what happened, put together."""

from __future__ import annotations

from fastapi import APIRouter

from service.access import Access
from service.definition_changes import DefinitionChanges
from service.experiment_store import ExperimentStore
from service.growth_routes import GrowthAnswers, growth_routes
from service.ingestion import Ingestion
from service.metrics import ServiceMetrics
from service.phases import Phases
from service.power_routes import power_routes
from service.report_making import ReportMaker
from service.report_routes import report_routes
from service.reported_experiments import ReportedExperiments
from service.reports import Reports
from service.series_routes import SeriesAnswers, series_routes
from service.settings import Settings
from service.turn_series import TurnSeriesAnswers, turn_series_routes
from sinks.limited_queries import LimitedQueries, QueryLimits
from sinks.report_health import ReportHealth
from sinks.stored_reports import StoredReports
from sinks.unit_statistics import UnitStatisticsReader


class Reporting:
    def __init__(
        self,
        settings: Settings,
        changes: DefinitionChanges,
        phases: Phases,
        ingestion: Ingestion,
        metrics: ServiceMetrics,
    ) -> None:
        experiments = ReportedExperiments(changes, ExperimentStore(changes, phases))
        limits = QueryLimits(settings.reports.query_seconds, settings.reports.query_memory_mb)
        self._queries = LimitedQueries(settings.clickhouse, limits)
        units = UnitStatisticsReader(self._queries)
        self._health = ReportHealth(self._queries)
        self._reports = Reports(
            experiments,
            ReportMaker(experiments, units, self._health, ingestion),
            StoredReports(settings.clickhouse, self._queries),
            *(self._queries, settings.reports, metrics),
        )
        self._turns = TurnSeriesAnswers(self._queries, settings.reports, metrics)
        self._series = SeriesAnswers(self._queries, experiments, settings.reports, metrics)
        self._growth = GrowthAnswers(self._queries, settings.reports, metrics)

    def routers(self, access: Access) -> tuple[APIRouter, ...]:
        return (
            report_routes(access, self._reports),
            power_routes(access, self._reports),
            series_routes(access, self._series),
            turn_series_routes(access, self._turns),
            growth_routes(access, self._growth),
        )

    async def close(self) -> None:
        await self._reports.close()
        await self._series.close()
        await self._turns.close()
        await self._growth.close()
        await self._queries.close()
