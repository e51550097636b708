"""A worker: the app, the pipeline and all it needs, put together in one place, and its life."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import structlog
from aiokafka.errors import InvalidSessionTimeoutError, KafkaError
from faust.types import TP

from anabranch.events import RECORD_TYPES
from anabranch.fields import Event
from anabranch.registry import Registry
from anabranch.settings import KafkaSettings, RegistrySettings
from schemas.topics import ASSIGNMENT_REQUESTS, TURN_METRICS
from sinks.settings import ClickHouseSettings
from sinks.writer import SinkRejected, Writer
from streams.agents import ASSIGNING, INGESTING
from streams.answer_topics import AnswerTopics
from streams.app import build_app
from streams.application import Application
from streams.assigning import Assigning
from streams.columns import Columns
from streams.connection import kafka_problem
from streams.dead_letters import DeadLetterTopics
from streams.dead_limit import DeadLimit, TooManyDeadError
from streams.definition_decoding import registered_schema
from streams.definition_reader import DefinitionReader
from streams.forming import PLANS, Former
from streams.kafka_log import TopicPartition
from streams.live_definitions import LiveDefinitions
from streams.metrics import WorkerMetrics
from streams.pipeline import Pipeline
from streams.self_check import SelfCheck
from streams.settings import WorkerSettings
from streams.taking_up import TakingUp
from streams.transport import Consumer

log = structlog.get_logger("streams.worker")

_WATCH_SECONDS = 1.0
_STOP_SECONDS = 20.0
# One worker of all checks what is stored: the owner of this partition.
_CHECKED_BY_ITS_OWNER = TopicPartition(TURN_METRICS.name, 0)
_KAFKA_RETRY_SECONDS = 1.0


class WorkerError(Exception):
    """The worker cannot go on. The text says why, and what to do."""


def boot_clock() -> Callable[[], float]:
    """Monotonic, and goes on while the machine sleeps: an intent ages meanwhile, too."""
    clock_id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return lambda: time.clock_gettime(clock_id)


class Worker:
    def __init__(
        self,
        settings: WorkerSettings,
        kafka: KafkaSettings,
        clickhouse: ClickHouseSettings,
        registry: RegistrySettings,
    ) -> None:
        self.metrics = WorkerMetrics()
        self.name = settings.name or f"{socket.gethostname()}-{os.getpid()}"
        self._settings = settings
        self._kafka = kafka
        self._kafka_problem: str | None = None
        clock = boot_clock()
        self._clock = clock
        self.writer = Writer(clickhouse, self.metrics)
        self._dead_letters = DeadLetterTopics(kafka)
        self.application = Application(
            settings,
            self.writer,
            self._dead_letters,
            DeadLimit(settings.dead_share, settings.dead_at_least),
            self.metrics,
            worker=self.name,
            clock=clock,
        )
        schemas = Registry(registry)
        plans = [plan.with_unit_sums(settings.unit_sums) for plan in PLANS]
        self.pipeline = Pipeline(
            settings,
            {
                plan.spec.name: Former(
                    plan, kind_of(plan.spec.name), Columns(plan.spec, schemas.schema)
                )
                for plan in plans
            },
            TakingUp(self.writer, self.metrics),
            self.application,
            self.metrics,
            clock,
        )
        # Without a copy on disk: while Kafka is away there are no requests either.
        self.definitions = DefinitionReader(
            kafka, registered_schema(schemas), self.metrics.definitions
        )
        self.assigning = Assigning(
            settings,
            schemas,
            LiveDefinitions(self.definitions, self.metrics.definitions),
            AnswerTopics(kafka, settings.reply_topics, self.metrics.assignments),
            self._dead_letters,
            self.metrics,
            clock=clock,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="anabranch-worker-")
        self.app = build_app(settings, kafka, Path(self._folder.name))
        for agent in INGESTING if settings.ingest else ():
            agent(self.app, self.pipeline.accept)
        for agent in ASSIGNING if settings.assignments else ():
            agent(self.app, self.assigning.accept)
        self.app.on_partitions_assigned.connect(cast(Any, self._on_assigned))
        self.app.on_partitions_revoked.connect(cast(Any, self._on_revoked))
        self._self_check = SelfCheck(
            clickhouse,
            self.writer,
            self.metrics,
            unit_sums=settings.unit_sums,
            is_ours=lambda: _CHECKED_BY_ITS_OWNER in self.pipeline.partitions,
        )
        self._left = False
        self._excused_at = 0.0
        """When something that this worker needs was last away."""

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop, which drains what is intended. WorkerError: it cannot go on."""
        await self._wait_for_kafka(stop)
        if stop.is_set():
            await self._close()
            return
        # While the group has yet to give out its partitions; whether it answers is seen later.
        helping = []
        if self._settings.ingest:
            helping.append(asyncio.create_task(self.writer.check(), name="connect"))
            helping.append(asyncio.create_task(self._self_check.run(), name="self-check"))
        if self._settings.assignments:
            helping.append(asyncio.create_task(self.definitions.start(), name="definitions"))
        pipeline = asyncio.create_task(self.pipeline.run(), name="pipeline")
        assigning = asyncio.create_task(self.assigning.run(), name="assigning")
        watch = asyncio.create_task(self._watch(), name="watch")
        start = asyncio.create_task(self.app.start(), name="faust")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            ends = {pipeline, assigning, watch, stopping}
            done, _ = await asyncio.wait({*ends, start}, return_when=asyncio.FIRST_COMPLETED)
            while done == {start}:  # its start ended well, and the worker lives
                await _ended(start)
                done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                await _ended(task)
        finally:
            await self._stop((pipeline, assigning, watch, *helping, start, stopping))

    async def _stop(self, tasks: Iterable[asyncio.Future[Any]]) -> None:
        log.info("stopping")
        self._left = True
        try:
            async with asyncio.timeout(_STOP_SECONDS + self._settings.drain_seconds):
                await asyncio.gather(self.pipeline.drain(), self.assigning.revoke())
                await self.app.stop()
        except TimeoutError:
            log.warning("the stop took too long and was cut short")
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self._close()

    async def _close(self) -> None:
        self.application.close()
        await self.definitions.stop()
        await self.assigning.close()
        self._folder.cleanup()
        await self._dead_letters.close()
        await self.writer.close()

    async def _wait_for_kafka(self, stop: asyncio.Event) -> None:
        """Faust ends when it finds no broker at its start."""
        while not stop.is_set():
            problem = await kafka_problem(self._kafka)
            if (problem is None) != (self._kafka_problem is None):
                log.warning("waiting for kafka", problem=problem)
            self._kafka_problem = problem
            if problem is None:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _KAFKA_RETRY_SECONDS)

    async def _on_assigned(self, app: Any, assigned: Iterable[TP], **_: Any) -> None:
        if not self._left:
            places = [TopicPartition(*place) for place in assigned]
            log.info("partitions assigned", count=len(places))
            asked = [place for place in places if place.topic == ASSIGNMENT_REQUESTS.name]
            self.pipeline.assign([p for p in places if p not in asked], self._consumer)
            self.assigning.assign(asked, self._consumer)
            self.metrics.partitions.set(len(places))

    async def _on_revoked(self, app: Any, revoked: Iterable[TP], **_: Any) -> None:
        await asyncio.gather(self.pipeline.revoke(), self.assigning.revoke())

    @property
    def _consumer(self) -> Consumer:
        return cast(Consumer, cast(Any, self.app.consumer))

    async def _watch(self) -> None:
        """Figures that are read rather than counted, and the end of Faust when it has crashed."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self.app.crashed:
                raise WorkerError(f"Faust ended: {self.app.crash_reason!r}")
            if (refusal := self._consumer.refusal) is not None:
                raise WorkerError(self._refused(refusal))
            if self._is_excused:
                self._excused_at = self._clock()
            waiting = 0
            for place, partition in self.pipeline.partitions.items():
                waiting += partition.intake.bytes
                end = self._consumer.end(place)
                if partition.ledger is not None and end is not None:
                    lag = max(0, end - partition.ledger.next)
                    self.metrics.lag.labels(*map(str, place)).set(lag)
            for place, asked in self.assigning.partitions.items():
                waiting += asked.intake.bytes
                end = self._consumer.end(place)
                if asked.next is not None and end is not None:
                    self.metrics.lag.labels(*map(str, place)).set(max(0, end - asked.next))
            self.metrics.waiting_bytes.set(waiting)
            self.pipeline.look_for_missing(self._consumer.readable_end)
            self.assigning.look_for_missing(self._consumer.readable_end)

    def _refused(self, refusal: KafkaError) -> str:
        said = f"Kafka does not take this worker into the group {self._settings.group}"
        if isinstance(refusal, InvalidSessionTimeoutError):
            return (
                f"{said}: ANABRANCH_WORKER__SESSION_TIMEOUT_SECONDS is "
                f"{self._settings.session_timeout_seconds:g}, and the brokers' "
                "group.min.session.timeout.ms (6,000 by default) and group.max.session.timeout.ms "
                "do not allow that"
            )
        return f"{said}: {refusal!r}"

    @property
    def _is_excused(self) -> bool:
        """What it needs is away: standing still is no fault of its own."""
        return any(
            (
                self.writer.circuit.problem,
                self.application.registry_problem,
                self.assigning.registry_problem,
                self.assigning.problem,
            )
        )

    @property
    def stalled_seconds(self) -> float:
        """How long something has waited while its partition made no progress and nothing that this
        worker needs was away."""
        since = [
            max(p.progressed_at, p.intake.oldest)
            for p in self.pipeline.partitions.values()
            if p.intake.rows or (p.ledger and p.ledger.intended)
        ]
        since += self.assigning.waiting_since()
        return max((self._clock() - max(at, self._excused_at) for at in since), default=0.0)

    def problems(self) -> dict[str, str | None]:
        """What stands in the way, by dependency; None where nothing does."""
        unjoined = None if self.pipeline.joined else "the group has not given it its share yet"
        registry = self.application.registry_problem or self.assigning.registry_problem
        found = {"kafka": self._kafka_problem or unjoined, "registry": registry}
        if self._settings.ingest:
            found["clickhouse"] = self.writer.circuit.problem
        if self._settings.assignments:
            found["definitions"] = self.definitions.problem
            found["answers"] = self.assigning.problem
        return found

    def shown_partitions(self) -> list[dict[str, object]]:
        shown: list[dict[str, object]] = [
            {
                "topic": place.topic,
                "partition": place.partition,
                "next": partition.ledger.next if partition.ledger else None,
                "intended": partition.ledger.intended if partition.ledger else None,
                "waiting": partition.intake.rows,
            }
            for place, partition in sorted(self.pipeline.partitions.items())
        ]
        return shown + [asked.shown for _, asked in sorted(self.assigning.partitions.items())]


async def _ended(task: asyncio.Future[Any]) -> None:
    try:
        await task
    except (TooManyDeadError, SinkRejected) as error:
        raise WorkerError(str(error)) from error
    except KafkaError as error:
        raise WorkerError(f"Kafka refused for good: {error!r}") from error


def kind_of(topic: str) -> type[Event]:
    return next(kind for kind in RECORD_TYPES if topic == kind.TOPIC)
