"""Proves that each event was applied once: everything is made again from raw rows and offsets.

* `batches`: the ranges of a partition follow each other without gap or overlap.
* Raw rows and dead letters: each range holds what its batch says, no offset twice, none outside.
* `metric_windows`, `metric_hours`, `metric_days`, `unit_metrics`, `unit_exposures`, `invite_units`:
  each row equals what raw rows make.
* Kafka's ledger, where the caller has read it: what it calls applied is in `batches`.

It runs beside ingestion (sinks/verify_comparison.py says how), and in slices: memory is bounded.
"""

# ruff: noqa: S608  # no value from outside is in a statement

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sinks.clickhouse import connected
from sinks.settings import ClickHouseSettings
from sinks.verify_ledger import LedgerEntry, ReadLedger, check_ledger
from sinks.verify_questions import Difference, Findings, Limits, Progress, Questions
from sinks.verify_ranges import check_ranges
from sinks.verify_sources import Span
from sinks.verify_units import (
    INVITE_UNITS,
    UNIT_METRICS,
    check_daily_sums,
    check_unit_exposures,
)
from sinks.verify_windows import check_windows

__all__ = ["Difference", "LedgerEntry", "Limits", "Span", "Verification", "verify"]

_FOR_EVER_DAYS = 3_650
_UNHURRIED = Limits()


class Verification(NamedTuple):
    differences: tuple[Difference, ...]
    """The first ones."""
    total: int
    checked: Mapping[str, int]
    """What was looked at, by table: ranges of `batches`, else rows, before they are merged."""
    moving: int
    """Keys that changed while they were looked at, and were held to bounds alone."""
    in_flight: int
    """Raw rows and dead letters of batches that are not finished."""


async def verify(
    settings: ClickHouseSettings,
    *,
    now: datetime,
    since: datetime | None = None,
    minutes: Span | None = None,
    unit_sums: bool = True,
    read_ledger: ReadLedger | None = None,
    limits: Limits = _UNHURRIED,
    progress: Progress = lambda table, done: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Verification:
    """Raises ClickHouseUnavailable or ClickHouseRefused.

    `since` is an event time for aggregates, and the time of application for batches: windows are
    looked at from their minute on, and sums by day from their whole day on. With `minutes`, windows
    of a minute are looked at there alone.
    """
    findings = Findings()
    patient = settings.model_copy(update={"timeout_seconds": limits.query_seconds + 30})
    async with connected(patient) as client:
        ask = Questions(client, limits, sleep)
        horizon = await _horizon(ask, now)
        start = horizon if since is None else max(horizon, since)
        await check_ranges(ask, findings, since, horizon, progress)
        if read_ledger is not None:
            await check_ledger(ask, findings, read_ledger)
        await check_windows(ask, findings, start, minutes, progress)
        await check_daily_sums(ask, findings, INVITE_UNITS, start, progress)
        if unit_sums:
            await check_daily_sums(ask, findings, UNIT_METRICS, start, progress)
            await check_unit_exposures(ask, findings, since, horizon, progress)
    return Verification(
        tuple(findings.differences),
        findings.total,
        dict(findings.checked),
        findings.moving,
        sum(findings.in_flight.values()),
    )


async def _horizon(ask: Questions, now: datetime) -> datetime:
    """From this midnight on, no table has dropped anything yet.

    Raw rows may be kept for a shorter time than what is made of them: whoever says so, says it in
    the tables themselves.
    """
    days = "toUInt32OrZero(extract(create_table_query, 'toIntervalDay.([0-9]+)'))"
    (least,) = await ask.row(
        f"SELECT minIf({days}, {days} > 0) FROM system.tables WHERE database = currentDatabase()"
    )
    kept = (int(least) or _FOR_EVER_DAYS) - 1
    return now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=kept)
