"""Answers what `assignment-requests.v1` asks: decide, write, then commit; each partition by itself.

At least once: the offset moves on only when Kafka has all answers and exposures of a batch. Whoever
takes a partition over after a crash answers its last batch again, with the same ids. An answer is
of the definitions and the time of the moment it is given, however old its request is.

Nothing is answered before definitions were read once: "no experiment has this key" would be wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import structlog

from anabranch.definition_set import DefinitionSet
from anabranch.events import Assignment, Exposure
from anabranch.fields import Event
from anabranch.registry import Registry, RegistryError
from schemas.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS, EXPOSURES, TopicSpec
from streams.answer_topics import AnswerTopics
from streams.answers import Answering, Answers
from streams.asked_partition import AskedPartition
from streams.assignment_requests import Asked, RequestReader
from streams.dead_letters import WORKER_VERSION, DeadLetterTopics
from streams.kafka_log import FencedError, Fetched, KafkaLog, TopicPartition
from streams.metrics import WorkerMetrics
from streams.settings import WorkerSettings

log = structlog.get_logger("streams.assigning")

SOURCE = f"anabranch-worker/{WORKER_VERSION}"

_MOST_BYTES = 16 << 20  # of answers in memory, for each partition
_ANSWERS_A_SLICE = 100  # a few milliseconds, after which everything else has its turn
_REGISTRY_RETRY_SECONDS = 1.0
_LOOK_FOR_DEFINITIONS_SECONDS = 0.1

Result = TypeVar("Result")


class Definitions(Protocol):
    @property
    def current(self) -> DefinitionSet:
        """The newest that are known."""

    @property
    def are_known(self) -> bool:
        """Whether they were ever read."""


class Assigning:
    def __init__(
        self,
        settings: WorkerSettings,
        registry: Registry,
        definitions: Definitions,
        answer_topics: AnswerTopics,
        dead_letter_topics: DeadLetterTopics,
        metrics: WorkerMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`now` is in seconds since 1970."""
        self.registry_problem: str | None = None
        self._settings = settings
        self._registry = registry
        self._definitions = definitions
        self._reader = RequestReader(registry.schema, settings.reply_topics)
        self._answering: Answering | None = None
        self._answer_topics = answer_topics
        self._dead_letter_topics = dead_letter_topics
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="requests")
        self._partitions: dict[TopicPartition, AskedPartition] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._lacks_definitions = False
        self._failed = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def partitions(self) -> Mapping[TopicPartition, AskedPartition]:
        return self._partitions

    @property
    def problem(self) -> str | None:
        """Why answers wait."""
        if self._lacks_definitions:
            return "requests wait: no definitions were ever read"
        return self._answer_topics.problem

    def assign(self, places: Iterable[TopicPartition], kafka: KafkaLog) -> None:
        now, most = self._clock(), self._settings.batch_requests
        self._partitions = {
            place: AskedPartition(place, kafka, self._metrics, most, now) for place in places
        }
        for place, partition in self._partitions.items():
            kafka.let_go(place)  # held back when this worker was fenced
            task = asyncio.create_task(self._serve(partition), name=f"answers of {place.partition}")
            self._serving.add(task)
            task.add_done_callback(self._one_ended)

    async def revoke(self) -> None:
        """Return when the batches under way are answered, or time is up."""
        partitions, self._partitions = self._partitions, {}
        for place, partition in partitions.items():
            partition.leaving = True
            partition.arrived.set()
            partition.kafka.let_go(place)
        if not self._serving:
            return
        _, left = await asyncio.wait(self._serving, timeout=self._settings.drain_seconds)
        for task in left:
            log.warning("requests are left to the next owner", task=task.get_name())
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def accept(self, place: TopicPartition, fetched: Fetched) -> None:
        partition = self._partitions.get(place)
        if partition is None:
            return  # on its way while the partition was revoked; its next owner reads it
        now = self._clock()
        for batch in fetched.batches:
            partition.intake.take(batch, now)
        partition.throttle()
        partition.arrived.set()

    def look_for_missing(self, end: Callable[[TopicPartition], int | None]) -> None:
        """Ask again for what Kafka has and nobody brings."""
        for place, partition in self._partitions.items():
            known = end(place)
            if partition.next is None or partition.held_back:
                continue
            if partition.intake.is_missing(known, self._clock()):
                partition.intake.broken = True
                partition.arrived.set()

    def waiting_since(self) -> Iterator[float]:
        """Of each partition where something waits: since when it has made no progress."""
        for partition in self._partitions.values():
            if partition.intake.rows:
                yield max(partition.progressed_at, partition.intake.oldest)

    async def run(self) -> None:
        """Until cancelled. Raises what ended the answering of a partition."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        await self._answer_topics.close()

    def _one_ended(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
            self._failed.set()

    async def _serve(self, partition: AskedPartition) -> None:
        try:
            await partition.take_up()
            while not partition.leaving:
                if partition.intake.broken:
                    await partition.mend()
                if not await self._answer_next(partition):
                    partition.arrived.clear()
                    await partition.arrived.wait()
        except FencedError as error:
            log.warning("fenced", place=partition.place, reason=str(error))
            self._metrics.fenced.inc()
            if self._partitions.get(partition.place) is partition:
                del self._partitions[partition.place]

    async def _answer_next(self, partition: AskedPartition) -> bool:
        """Return once Kafka has the answers, and knows that it has them; False: nothing waits."""
        found = partition.next_batch()
        if found is None:
            return False
        range_, batches = found
        existing = await self._answer_topics.existing()
        asked = await self._asking_the_registry(
            lambda: self._reader.read(batches, range_.first, range_.last, existing)
        )
        number = partition.place.partition
        await self._dead_letter_topics.publish(ASSIGNMENT_REQUESTS, number, asked.dead)
        if len(asked.frame):
            await self._answer(asked)
        await partition.commit(range_, self._clock())
        self._tell(asked)
        return True

    async def _answer(self, asked: Asked) -> None:
        answering = await self._with_schema_ids()
        while not self._definitions.are_known:
            self._lacks_definitions = True
            await self._sleep(_LOOK_FOR_DEFINITIONS_SECONDS)
        self._lacks_definitions = False
        definitions, at_ms = self._definitions.current, int(self._now() * 1000)
        answers, turn_at = Answers(), _ANSWERS_A_SLICE
        for request in asked.requests():
            answering.answer(request, definitions, at_ms, answers)
            if answers.bytes > _MOST_BYTES:
                await self._store(answers)
                answers, turn_at = Answers(), _ANSWERS_A_SLICE
            elif answers.count >= turn_at:
                turn_at = answers.count + _ANSWERS_A_SLICE
                await asyncio.sleep(0)
        await self._store(answers)

    async def _store(self, answers: Answers) -> None:
        await self._answer_topics.store(answers.records)
        metrics = self._metrics.assignments
        for reason, count in answers.by_reason.items():
            metrics.answers.labels(reason).inc(count)
        metrics.exposures.inc(answers.exposures)

    async def _with_schema_ids(self) -> Answering:
        if self._answering is None:
            self._answering = Answering(
                await self._schema_id(ASSIGNMENTS, Assignment),
                await self._schema_id(EXPOSURES, Exposure),
                SOURCE,
            )
        return self._answering

    async def _schema_id(self, spec: TopicSpec, kind: type[Event]) -> int:
        return await self._asking_the_registry(
            lambda: self._registry.register(spec.subject, kind.SCHEMA)
        )

    async def _asking_the_registry(self, question: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        while True:
            try:
                found = await loop.run_in_executor(self._thread, question)
            except RegistryError as error:  # an unknown schema is the record's, not the registry's
                if self.registry_problem is None:
                    log.warning("the schema registry is of no help", problem=str(error))
                self.registry_problem = str(error)
                await self._sleep(_REGISTRY_RETRY_SECONDS)
            else:
                self.registry_problem = None
                return found

    def _tell(self, asked: Asked) -> None:
        metrics, topic = self._metrics.assignments, ASSIGNMENT_REQUESTS.name
        metrics.requests.labels("answered").inc(len(asked.frame))
        metrics.requests.labels("dead").inc(len(asked.dead))
        metrics.batch_requests.observe(len(asked.frame) + len(asked.dead))
        for letter in asked.dead:
            self._metrics.dead.labels(topic, letter.reason).inc()
        for appended_ms in (asked.oldest_append_ms, asked.newest_append_ms):
            if appended_ms is not None:
                metrics.latency_seconds.observe(max(0.0, self._now() - appended_ms / 1000))
