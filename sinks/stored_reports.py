"""Reports that were given out, so that they can be had again byte by byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from sinks.clickhouse import typed_errors
from sinks.limited_queries import LimitedQueries
from sinks.settings import ClickHouseSettings

_COLUMNS = ("id", "experiment", "made_at", "definition_version", "code_version", "body")


class StoredReport(NamedTuple):
    id: str
    experiment: str
    definition_version: int
    code_version: str
    body: bytes


class StoredReports:
    def __init__(self, settings: ClickHouseSettings, queries: LimitedQueries) -> None:
        self._settings = settings
        self._queries = queries

    async def add(self, report: StoredReport) -> None:
        """Once; a report of the same id is the same. Raises ClickHouseUnavailable or
        ClickHouseRefused."""
        *known, body = report
        report_id, experiment, *versions = known
        row = (report_id, experiment, datetime.now(UTC), *versions, body.decode())
        with typed_errors(self._settings):
            client = await self._queries.connected()
            await client.insert(
                "reports",
                [row],
                column_names=_COLUMNS,
                settings={"insert_deduplication_token": report_id},
            )

    async def find(self, report_id: str) -> StoredReport | None:
        """Raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused."""
        rows = await self._queries.rows(
            "SELECT id, toString(experiment), definition_version, toString(code_version), body "
            "FROM reports WHERE id = {id:String} LIMIT 1",
            {"id": report_id},
        )
        if not rows:
            return None
        report_id, experiment, definition_version, code_version, body = rows[0]
        return StoredReport(report_id, experiment, definition_version, code_version, body.encode())
