"""Changes of definitions, by compare-and-set on the definition log."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, get_args
from weakref import WeakValueDictionary

import structlog

from anabranch.definition_records import Document, Documents
from anabranch.encoding import Encoder
from anabranch.events import ExperimentRecord
from anabranch.fields import now_ms
from anabranch.kafka import KafkaError
from service.definition_errors import (
    MAX_CHARACTERS,
    ChangeOutcome,
    DefinitionLogError,
    DefinitionTooLargeError,
    InvalidChangeError,
    LogUnavailableError,
    VersionConflictError,
)
from service.kafka_link import Connection, KafkaLink
from service.metrics import ServiceMetrics
from service.schema_ids import SchemaIds
from streams.definition_reader import DefinitionReader

logger = structlog.get_logger("service.definition_log")

Status = Literal["draft", "scheduled", "running", "stopped", "archived", "deleted"]

TIMEOUT_SECONDS = 5.0
_PARTITION = 0
_COPY_AFTER_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 60.0


class DefinitionLog:
    def __init__(
        self,
        link: KafkaLink,
        ids: SchemaIds,
        reader: DefinitionReader,
        metrics: ServiceMetrics,
        *,
        timeout: float = TIMEOUT_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`ids` knows the schema of ExperimentRecord."""
        self._link = link
        self._ids = ids
        self._reader = reader
        self._metrics = metrics
        self._timeout = timeout
        self._sleep = sleep
        self._encoder: Encoder | None = None
        # Two changes of one key in this process need not race: the second is refused unwritten.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._copying: asyncio.Task[None] | None = None
        for outcome in get_args(ChangeOutcome):
            metrics.definition_changes.labels(outcome)

    def start(self) -> None:
        """The reader and the link are started and stopped by whoever made them."""
        self._copying = asyncio.create_task(self._copy_winners(), name="definition-copies")

    async def stop(self) -> None:
        if self._copying is not None:
            self._copying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._copying

    @property
    def documents(self) -> Documents:
        return self._reader.documents

    def get(self, key: str) -> Document | None:
        """The current one; what was deleted among them."""
        return self.documents.get(key)

    def history(self, key: str) -> tuple[Document, ...]:
        """Every version that is known, oldest first, the current one last.

        Bounded by the log, which keeps each version for 400 days, and by memory, which keeps the
        newest 1,000 of a key. While only the snapshot on disk could be read, the current one alone.
        """
        return self._reader.documents.history(key)

    async def change(
        self,
        key: str,
        based_on_version: int,
        status: Status,
        definition: Mapping[str, Any],
        by: str,
        comment: str = "",
    ) -> Document:
        """The document that this change made, as every reader will have it. Zero is the version
        of what is not there yet. Raises DefinitionLogError; see there."""
        try:
            record = _record(key, based_on_version + 1, status, definition, by, comment)
            lock = self._locks.setdefault(key, asyncio.Lock())
            made = await self._change(record, lock)
        except DefinitionLogError as error:
            self._metrics.definition_changes.labels(error.outcome).inc()
            raise
        self._metrics.definition_changes.labels("won").inc()
        return made

    async def _change(self, record: ExperimentRecord, lock: asyncio.Lock) -> Document:
        written: bool | None = False
        what = f"version {record.version} of {record.key}"
        try:
            async with asyncio.timeout(self._timeout), lock:
                self._check(record)
                send = await self._sender(record)
                written = None
                offset = await send()
                written = True
                await self._reader.wait_beyond(offset)
        except TimeoutError as error:
            why = self._link.problem or self._reader.problem or "it did not answer in time"
            said = {
                False: f"{what} was not written",
                None: f"it is not known whether {what} was written: read it before trying again",
                True: f"{what} was written and not read back: read it before trying again",
            }[written]
            raise LogUnavailableError(f"Kafka: {why}; {said}", written=written) from error
        documents = self._reader.documents
        for document in documents.history(record.key):
            if document.offset == offset:
                return document
        raise VersionConflictError(record.key, record.version - 1, documents.get(record.key))

    def _check(self, record: ExperimentRecord) -> None:
        """What can be known before anything is written."""
        if (problem := self._reader.problem) is not None:
            raise LogUnavailableError(f"{problem}; nothing was written", written=False)
        current = self._reader.documents.get(record.key)
        if (0 if current is None else current.version) != record.version - 1:
            raise VersionConflictError(record.key, record.version - 1, current)

    async def _sender(self, record: ExperimentRecord) -> Callable[[], Awaitable[int]]:
        """Everything up to the point behind which the record may be on its way."""
        topic = self._reader.topic
        if (problem := await self._ids.check()) is not None:
            raise LogUnavailableError(f"{problem}; nothing was written", written=False)
        if self._encoder is None:
            assert self._ids.of_topic is not None
            schema_id = self._ids.of_topic[ExperimentRecord.TOPIC]
            self._encoder = Encoder(ExperimentRecord, schema_id)
        connection = await self._link.connection()
        producer = connection.producer
        batch = producer.create_batch()
        key, value = self._encoder.encode(record)
        batch.append(timestamp=time.time_ns() // 1_000_000, key=key, value=value)

        async def send() -> int:
            try:
                stored: Any = await producer.send_batch(batch, topic, partition=_PARTITION)
                stored.add_done_callback(functools.partial(self._sent, connection))
                await asyncio.wait(
                    [stored, connection.given_up], return_when=asyncio.FIRST_COMPLETED
                )
                if not stored.done():
                    stored.cancel()
                    raise TimeoutError
                return int(stored.result().offset)
            except KafkaError as error:
                raise LogUnavailableError(
                    f"Kafka refused version {record.version} of {record.key}: "
                    f"{error or type(error).__name__}; it is not known whether it was written: "
                    "read it before trying again",
                    written=None,
                ) from error

        return send

    def _sent(self, connection: Connection, stored: asyncio.Future[object]) -> None:
        """However late, and whether or not somebody still waits for it."""
        if stored.cancelled() or (error := stored.exception()) is None:
            return
        # An idempotent producer cannot go on after a batch that failed for good.
        connection.give_up()
        self._metrics.produce_failures.labels(type(error).__name__).inc()

    async def _copy_winners(self) -> None:
        """Behind whatever hides a winner from compaction goes a copy of the winner. Every service
        sees to it, each after another moment, so that mostly one does; more do no harm."""
        while True:
            revision = self._reader.documents.revision
            # Jitter, no secret.
            await self._sleep(_COPY_AFTER_SECONDS * (0.5 + random.random()))  # noqa: S311
            for key in sorted(self._reader.documents.shadowed):
                # Not from a snapshot, whose end is not the log's.
                if self._reader.problem is None and key in self._reader.documents.shadowed:
                    await self._copy(self._reader.documents[key])
            if self._reader.documents.revision == revision:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                        await self._reader.wait_beyond(revision)

    async def _copy(self, winner: Document) -> None:
        record = ExperimentRecord(
            key=winner.key,
            version=winner.version,
            status=winner.status,  # type: ignore[arg-type]  # as it was read
            definition=winner.text,
            changed_by=winner.changed_by,
            changed_at=winner.changed_at_ms,
            comment=winner.comment,
            confirms=winner.offset,
        )
        try:
            async with asyncio.timeout(self._timeout):
                offset = await (await self._sender(record))()
                await self._reader.wait_beyond(offset)
        except (TimeoutError, LogUnavailableError) as error:
            logger.warning("a winner could not be copied", key=winner.key, problem=str(error))
            return
        self._metrics.definition_copies.inc()
        logger.info("a winner was copied", key=winner.key, version=winner.version, offset=offset)


def _record(
    key: str, version: int, status: Status, definition: Mapping[str, Any], by: str, comment: str
) -> ExperimentRecord:
    try:
        text = json.dumps(
            definition,
            default=_plain,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidChangeError(f"the definition of {key} is not JSON: {error}") from error
    if len(text) > MAX_CHARACTERS:
        raise DefinitionTooLargeError(key, len(text))
    record = ExperimentRecord(
        key=key,
        version=version,
        status=status,
        definition=text,
        changed_by=by,
        comment=comment,
    )
    if (problem := record.problem(now_ms())) is not None:
        raise InvalidChangeError(problem)
    return record


def _plain(value: object) -> object:
    """A definition that was read is made of read-only mappings."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")
