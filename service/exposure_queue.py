"""Exposures of assignments on their way to Kafka: no request waits for them.

They wait in a queue with a limit while Kafka is away. What finds no room, and what is left when the
service ends, is counted; nothing is dropped without that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable

import structlog

from anabranch.encoding import Encoder
from anabranch.events import Exposure
from anabranch.fields import now_ms
from service.event_log import EventLog, NotStoredError, OverloadError, Record
from service.metrics import ServiceMetrics
from service.schema_ids import SchemaIds

logger = structlog.get_logger("service.exposure_queue")

MOST_WAITING = 50_000
_AT_ONCE = 1_000
_GATHER_SECONDS = 0.025
"""A batch costs Kafka and this process about as much as 20 exposures do."""
_STORE_SECONDS = 10.0
_RETRY_SECONDS = 1.0


class ExposureQueue:
    def __init__(
        self,
        log: EventLog,
        ids: SchemaIds,
        metrics: ServiceMetrics,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._log = log
        self._ids = ids
        self._metrics = metrics
        self._most_waiting = most_waiting
        self._waiting: deque[Exposure] = deque()
        self._some = asyncio.Event()
        self._tried = asyncio.Event()
        self._encoder: Encoder | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_away = False
        metrics.exposures_waiting.set_function(lambda: len(self._waiting))

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_storing(), name="exposures")

    async def stop(self, *, flush_seconds: float) -> None:
        """Before the event log ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(flush_seconds):
                while self._waiting and not self._is_away:
                    self._tried.clear()
                    await self._tried.wait()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if left := len(self._waiting):
            self._metrics.exposures.labels("lost_at_stop").inc(left)
            logger.error("exposures were not stored", exposures=left)

    def add(self, exposures: Iterable[Exposure]) -> None:
        """Never waits and never raises."""
        for exposure in exposures:
            if (problem := exposure.problem(now_ms())) is not None:
                self._metrics.exposures.labels("refused").inc()
                logger.warning("an exposure cannot be stored", problem=problem)
            elif len(self._waiting) >= self._most_waiting:
                self._metrics.exposures.labels("no_room").inc()
            else:
                self._waiting.append(exposure)
                self._some.set()

    async def _keep_storing(self) -> None:
        while True:
            await self._some.wait()
            if len(self._waiting) < _AT_ONCE:
                await asyncio.sleep(_GATHER_SECONDS)
            taken = [self._waiting[n] for n in range(min(_AT_ONCE, len(self._waiting)))]
            if not taken:
                self._some.clear()
                continue
            try:
                problem = await self._stored(taken)
            except Exception as error:  # the top of a task, which nobody else would see end
                logger.exception("exposures could not be stored")
                problem = f"{type(error).__name__}: {error}"
            if problem is None:
                for _ in taken:
                    self._waiting.popleft()
                self._metrics.exposures.labels("stored").inc(len(taken))
            elif not self._is_away:
                logger.warning("exposures wait for Kafka", waiting=len(taken), problem=problem)
            self._is_away = problem is not None
            self._tried.set()
            if problem is not None:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _stored(self, exposures: list[Exposure]) -> str | None:
        """What kept Kafka from storing all of them. Some may be stored then: each has an
        event_id of its own, by which a copy is known."""
        encoder = self._ready_encoder()
        if encoder is None:
            return "the schema registry has not given the ids of our schemas yet"
        records = [Record(Exposure.TOPIC, *encoder.encode(exposure)) for exposure in exposures]
        try:
            await self._log.store(records, timeout=_STORE_SECONDS)
        except (NotStoredError, OverloadError) as error:
            return str(error)
        return None

    def _ready_encoder(self) -> Encoder | None:
        if self._encoder is None and (ids := self._ids.of_topic) is not None:
            self._encoder = Encoder(Exposure, ids[Exposure.TOPIC])
        return self._encoder
