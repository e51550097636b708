"""The worker's check of its own work, on a real engine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from schemas.topics import TURN_METRICS
from sinks.settings import ClickHouseSettings
from sinks.writer import Writer
from streams.metrics import WorkerMetrics
from streams.self_check import SelfCheck
from tests.live.applied_batches import Applier
from tests.live.applied_batches import applier as applier

DIFFERENCES = "anabranch_worker_self_check_differences"
AT = "anabranch_worker_self_check_seconds"
NOW = datetime.now(UTC)
TURNS = TURN_METRICS.name
ONE_CHANGED = (
    "INSERT INTO metric_windows SELECT window, experiment, version, variation, locale, metric, "
    "0, {0}, 0., min(min), max(max), CAST(map(), 'Map(Int32, UInt64)') FROM metric_windows "
    "WHERE metric = 'acts' AND window < now() - INTERVAL 2 MINUTE GROUP BY ALL ORDER BY ALL LIMIT 1"
)


def self_check(
    applier: Applier, metrics: WorkerMetrics, rows_at_once: int = 1_000_000
) -> SelfCheck:
    return SelfCheck(
        applier.settings,
        applier.writer,
        metrics,
        unit_sums=True,
        is_ours=lambda: True,
        rows_at_once=rows_at_once,
    )


async def test_self_check_says_how_much_is_wrong_in_the_last_hour_and_where(
    applier: Applier,
) -> None:
    metrics = WorkerMetrics()
    check = self_check(applier, metrics)
    assert metrics.registry.get_sample_value(DIFFERENCES) is None
    found = await check.check(datetime.now(UTC))
    assert found.checked["metric_windows"] > 0
    assert found.checked["unit_metrics"] > 0
    assert found.checked["unit_exposures"] > 0
    assert metrics.registry.get_sample_value(DIFFERENCES) == 0
    assert (metrics.registry.get_sample_value(AT) or 0) >= NOW.timestamp()

    await applier.writer.command(ONE_CHANGED.format("1."))
    with capture_logs() as logs:
        await check.check(datetime.now(UTC))
    assert metrics.registry.get_sample_value(DIFFERENCES) == 1
    (told,) = logs
    assert told["log_level"] == "error"
    assert told["place"].startswith("metric_windows (window ")
    assert "metric acts): sum is " in told["place"]


async def test_self_check_takes_an_hour_in_parts_when_it_is_much(applier: Applier) -> None:
    metrics = WorkerMetrics()
    ((rows,),) = await applier.writer.query("SELECT sum(rows) FROM batches")
    check = self_check(applier, metrics, rows_at_once=rows // 3 + 1)
    await applier.writer.command(ONE_CHANGED.format("1."))
    counts = []
    for _ in range(4):
        await check.check(datetime.now(UTC))
        counts.append(metrics.registry.get_sample_value(DIFFERENCES))
    # The last minutes of the hour are the last of its three parts; then it begins again.
    assert counts == [0, 0, 1, 1]
    await applier.writer.command(ONE_CHANGED.format("-1."))
    for _ in range(2):
        await check.check(datetime.now(UTC))
    assert metrics.registry.get_sample_value(DIFFERENCES) == 0


async def test_self_check_goes_on_when_clickhouse_is_away_or_it_is_not_ours(
    applier: Applier, unused_tcp_port: int
) -> None:
    metrics = WorkerMetrics()
    away = ClickHouseSettings(url=f"http://127.0.0.1:{unused_tcp_port}")
    ours = iter([False, True, True])
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 4:
            raise asyncio.CancelledError

    check = SelfCheck(
        away,
        Writer(away, metrics),
        metrics,
        unit_sums=True,
        is_ours=lambda: next(ours),
        sleep=sleep,
    )
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await check.run()
    assert [line["log_level"] for line in logs] == ["warning", "warning"]
    assert all(seconds >= 60 for seconds in waits)
    assert metrics.registry.get_sample_value(DIFFERENCES) is None


async def test_self_check_leaves_out_what_is_long_ago(applier: Applier) -> None:
    long_ago = int((NOW - timedelta(days=2)).timestamp() * 1000)
    await applier.apply(TURNS, 0, 20, ts=long_ago)
    await applier.delete("metric_windows", "window < now() - INTERVAL 1 DAY")
    found = await self_check(applier, WorkerMetrics()).check(datetime.now(UTC))
    assert found.total == 0
