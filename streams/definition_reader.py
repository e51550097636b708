"""Keeps the definitions of this process equal to the definition log, and a copy of them on disk.

Every connection reads the log from its beginning: definitions are few, and a log that was made
anew while nobody looked is then never taken for the old one. Until that is done, and while Kafka is
away, the definitions stay those that were known last.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import structlog
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from anabranch.definition_records import (
    NOTHING,
    Documents,
    Outcome,
    Verdict,
    changed_keys,
    fold_all,
)
from anabranch.registry import RegistryError
from anabranch.settings import KafkaSettings
from schemas.topics import EXPERIMENTS
from streams.definition_decoding import DefinitionDecoder, SchemaOf
from streams.definition_snapshot import DefinitionSnapshot, KeptSnapshot
from streams.definition_source import ANSWER_SECONDS, DefinitionSource, connected
from streams.metrics import DefinitionMetrics
from streams.topic_admin import TopicError

log = structlog.get_logger("streams.definition_reader")

Subscriber: TypeAlias = Callable[[Documents, frozenset[str]], None]
"""Is told the documents and the keys that came, changed or went."""

_PROBE_SECONDS = 2.0
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0)


class _LogMadeAnewError(Exception):
    """The topic ends before what was read of it."""


class DefinitionReader:
    """`documents` never waits and never fails; `problem` says when they may be old."""

    def __init__(
        self,
        kafka: KafkaSettings,
        schema_of: SchemaOf,
        metrics: DefinitionMetrics,
        *,
        folder: Path | None = None,
        topic: str = EXPERIMENTS.name,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Without a folder nothing is kept on disk."""
        self.documents = NOTHING
        self.topic = topic
        self._kafka = kafka
        self._decoder = DefinitionDecoder(schema_of)
        self._metrics = metrics
        self._kept = None
        if folder is not None:
            self._kept = KeptSnapshot(
                DefinitionSnapshot(folder, topic), self._newest, metrics, sleep
            )
        self._clock = clock
        self._sleep = sleep
        self._subscribers: list[Subscriber] = []
        self._moved = asyncio.Event()
        self._lives = 0  # counts the logs that were made anew
        self._counted_to = 0
        self._problem: str | None = "the definition log has not been read yet"
        self._as_of = clock()
        self._settled = asyncio.Event()  # the first try has ended, well or not
        self._tasks: list[asyncio.Task[None]] = []
        metrics.stale_seconds.set_function(lambda: self.stale_seconds or 0.0)

    @property
    def stale_seconds(self) -> float | None:
        """How long ago the documents were known to be the newest, or this reader was made if they
        never were; None while they are."""
        return None if self._problem is None else max(0.0, self._clock() - self._as_of)

    @property
    def problem(self) -> str | None:
        """For the readiness: why the documents may be old, and how old."""
        if self._problem is None:
            return None
        held = f"{len(self.documents)} definitions from {self.stale_seconds:.0f} s ago are served"
        return f"{self._problem}; {held if self.documents.revision else 'there are no definitions'}"

    async def start(self) -> None:
        """Return when the log was read to its end, or could not be: then with what the disk has,
        and `problem` says so. The reader goes on trying."""
        if self._kept is not None:
            if (loaded := await self._kept.load()) is not None:
                self._as_of = min(loaded.as_of, self._clock())
                self._publish(loaded.documents)
            self._tasks.append(asyncio.create_task(self._kept.keep(), name="definition-snapshot"))
        reading = asyncio.create_task(self._read_on(), name="definition-reader")
        reading.add_done_callback(self._ended)
        self._tasks.append(reading)
        await self._settled.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._kept is not None:
            await self._kept.close()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Called in the loop, at once, on every change from now on. What it raises is logged and
        keeps nobody else from the change. Returns how to end it."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    async def wait_beyond(self, revision: int) -> None:
        """Until a record behind this revision was read, or the log was made anew."""
        life = self._lives
        while self.documents.revision <= revision and self._lives == life:
            await self._moved.wait()

    async def _read_on(self) -> None:
        failures = 0
        while True:
            try:
                await self._follow()
            except (_LogMadeAnewError, OffsetOutOfRangeError):
                self._lost(f"{self.topic} ends before what was read of it")
            except (KafkaError, OSError, TimeoutError, TopicError, RegistryError) as error:
                failures = 0 if self._problem is None else failures + 1
                self._lost(str(error) or f"Kafka at {self._kafka.bootstrap} does not answer")
            self._settled.set()
            await self._sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])

    async def _follow(self) -> None:
        """As long as Kafka answers. Raises whatever ends it."""
        async with connected(self._kafka, self.topic, self._decoder) as source:
            self._publish(await self._whole(source))
            self._caught_up()
            probed = time.monotonic()
            while True:
                if records := await source.next():
                    documents, verdicts = fold_all(self.documents, records)
                    self._count(verdicts)
                    self._publish(documents)
                    self._as_of = self._clock()
                elif time.monotonic() - probed > _PROBE_SECONDS:
                    # No records may mean silence, or that Kafka is away: the consumer does not say.
                    if await source.end() < await source.position():
                        raise _LogMadeAnewError
                    self._as_of = self._clock()
                    probed = time.monotonic()

    async def _whole(self, source: DefinitionSource) -> Documents:
        """The log up to where it ends now."""
        documents, end, heard = NOTHING, await source.end(), time.monotonic()
        if end < self.documents.revision:
            self._made_anew(end)
        while await source.position() < end:
            if records := await source.next():
                documents, verdicts = fold_all(documents, records)
                self._count(verdicts)
                heard = time.monotonic()
            elif time.monotonic() - heard > 2 * ANSWER_SECONDS:
                raise TimeoutError(f"{self.topic} gave none of the records below {end}")
        return documents

    def _publish(self, documents: Documents) -> None:
        before, self.documents = self.documents, documents
        self._metrics.documents.set(len(documents))
        self._metrics.revision.set(documents.revision)
        if self._kept is not None and documents.revision != before.revision:
            self._kept.changed()
        if keys := changed_keys(before, documents):
            for subscriber in tuple(self._subscribers):
                try:
                    subscriber(documents, keys)
                except Exception:
                    # One of many, whose bug must not keep the others from the change.
                    log.exception("a subscriber of the definitions failed", keys=sorted(keys))
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _newest(self) -> Documents | None:
        return self.documents if self._problem is None else None

    def _caught_up(self) -> None:
        self._problem, self._as_of = None, self._clock()
        log.info(
            "definitions are up to date",
            definitions=len(self.documents),
            revision=self.documents.revision,
        )
        self._settled.set()

    def _lost(self, problem: str) -> None:
        if problem != self._problem:
            log.warning("definitions may be old", problem=problem, kafka=self._kafka.bootstrap)
        self._problem = problem

    def _made_anew(self, end: int) -> None:
        log.warning(
            "the definition log was made anew", ends=end, had_been_read_to=self.documents.revision
        )
        self._metrics.logs_made_anew.inc()
        self._lives += 1
        self._counted_to = 0

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        """Each record once, however often the log is read again."""
        for verdict in verdicts:
            if verdict.offset < self._counted_to:
                continue
            self._counted_to = verdict.offset + 1
            self._metrics.records.labels(verdict.outcome).inc()
            if verdict.outcome is Outcome.UNREADABLE:
                log.error(
                    "a record of the definition log is skipped",
                    offset=verdict.offset,
                    key=verdict.key,
                    reason=verdict.reason,
                )

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Only by stop(), or by a bug, which must not look like all is well."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lost(f"the reader of {self.topic} ended by {error!r}")
            log.error("the definition reader ended", exc_info=error)
        self._settled.set()
