"""The worker's own doubt: about once a minute, what the last hour made is made again and compared.

It is `anabranch verify` within limits: one thread, little memory, seconds a query, and so many raw
rows a time. Where an hour has more, each check takes the next few minutes of it, and the batches of
the last few: within an hour every minute has had its turn, and every batch within minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.settings import ClickHouseSettings
from sinks.verify import Limits, Span, Verification, verify
from sinks.writer import Writer
from streams.metrics import WorkerMetrics

log = structlog.get_logger("streams.self_check")

EVERY_SECONDS = 60.0
ROWS_AT_ONCE = 2_000_000
# A check takes no more than this share of the time, however slow ClickHouse is.
_SHARE_OF_TIME = 0.1
_TOLD = 10
_HOUR = 60


class SelfCheck:
    def __init__(
        self,
        clickhouse: ClickHouseSettings,
        writer: Writer,
        metrics: WorkerMetrics,
        *,
        unit_sums: bool,
        is_ours: Callable[[], bool],
        rows_at_once: int = ROWS_AT_ONCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`is_ours`: whether it is this worker, of all, that checks now."""
        self._clickhouse = clickhouse
        self._writer = writer
        self._metrics = metrics
        self._unit_sums = unit_sums
        self._is_ours = is_ours
        self._rows_at_once = rows_at_once
        self._sleep = sleep
        self._part = -1
        self._differences: dict[int, int] = {}
        """What the newest look at each part of an hour found."""
        self._is_told = True
        self._tell(False)

    async def run(self) -> None:
        """Until cancelled."""
        wait = EVERY_SECONDS
        while True:
            await self._sleep(wait)
            begun = time.monotonic()
            if not self._is_ours():
                self._tell(False)
            elif self._writer.circuit.problem is None:
                await self._try()
            wait = max(EVERY_SECONDS, (time.monotonic() - begun) / _SHARE_OF_TIME)

    async def _try(self) -> None:
        try:
            await self.check(datetime.now(UTC))
        except (ClickHouseUnavailable, ClickHouseRefused) as error:
            log.warning("the self-check did not come to its end", problem=str(error)[:500])
        except Exception:
            # A task of its own, and its top: whatever is wrong here, events have to go on.
            log.exception("the self-check failed")

    async def check(self, now: datetime) -> Verification:
        """Raises ClickHouseUnavailable or ClickHouseRefused: then nothing is said of the hour."""
        hour_ago = now.replace(second=0, microsecond=0) - timedelta(hours=1)
        minutes = await self._affordable_minutes(hour_ago)
        parts = -(-_HOUR // minutes)
        self._part = (self._part + 1) % parts
        start = hour_ago + timedelta(minutes=self._part * minutes)
        found = await verify(
            self._clickhouse,
            now=now,
            since=now - timedelta(minutes=minutes),
            minutes=Span(start, start + timedelta(minutes=minutes)),
            unit_sums=self._unit_sums,
            limits=Limits(
                memory_bytes=400_000_000,
                threads=1,
                query_seconds=10.0,
                unit_rows=self._rows_at_once,
            ),
        )
        for difference in found.differences[:_TOLD]:
            log.error("what is stored is not what the raw rows make", place=str(difference))
        known = {part: count for part, count in self._differences.items() if part < parts}
        self._differences = known | {self._part: found.total}
        self._tell(True)
        self._metrics.verified.set(sum(self._differences.values()))
        self._metrics.verified_at.set(time.time())
        return found

    async def _affordable_minutes(self, hour_ago: datetime) -> int:
        """How many of an hour's minutes one check can take, by what was stored in the last."""
        ((rows,),) = await self._writer.query(
            "SELECT sum(rows) FROM batches WHERE applied_at >= {at:DateTime64(3, 'UTC')}",
            {"at": hour_ago},
        )
        return max(2, min(_HOUR, _HOUR * self._rows_at_once // max(1, int(rows))))

    def _tell(self, is_told: bool) -> None:
        """Absent is what a figure has to be that nobody has looked for: 0 would say all is well."""
        if is_told == self._is_told:
            return
        self._is_told = is_told
        registry = self._metrics.registry
        for gauge in (self._metrics.verified, self._metrics.verified_at):
            if is_told:
                registry.register(gauge)
            else:
                registry.unregister(gauge)
