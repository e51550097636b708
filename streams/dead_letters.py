"""Records that can never succeed: how they are told of, in their topic and in their table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version

import pyarrow as pa
import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from anabranch.settings import KafkaSettings
from schemas.topics import TopicSpec
from streams.decoded import DeadRecord
from streams.kafka_log import TopicPartition
from streams.lasting_producer import LastingProducer
from streams.record_batches import Headers
from streams.sending import send, writable

log = structlog.get_logger("streams.dead_letters")

WORKER_VERSION = version("anabranch")
_DETAIL_LENGTH = 512
_RETRY_SECONDS = 1.0
_LARGEST_RECORD_BYTES = 256 << 20
_UTC_MS = pa.timestamp("ms", "UTC")
_ROWS = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("epoch", pa.string()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("name", pa.binary()), ("value", pa.binary())]))),
        ("schema_id", pa.int64()),
        ("timestamp", _UTC_MS),
        ("died_at", _UTC_MS),
        ("worker", pa.string()),
        ("worker_version", pa.string()),
    ]
)


def dead_letter_rows(
    place: TopicPartition, epoch: str, dead: Sequence[DeadRecord], died_at: datetime, worker: str
) -> pa.Table:
    columns = {
        "topic": [place.topic] * len(dead),
        "partition": [place.partition] * len(dead),
        "epoch": [epoch] * len(dead),
        "offset": [record.offset for record in dead],
        "reason": [str(record.reason) for record in dead],
        "detail": [record.detail for record in dead],
        "key": [record.key for record in dead],
        "value": [record.value for record in dead],
        "headers": [
            [
                {"name": name.encode("utf-8", "surrogateescape"), "value": value}
                for name, value in record.headers
            ]
            for record in dead
        ],
        "schema_id": [record.schema_id for record in dead],
        "timestamp": [record.timestamp_ms for record in dead],
        "died_at": [died_at] * len(dead),
        "worker": [worker] * len(dead),
        "worker_version": [WORKER_VERSION] * len(dead),
    }
    arrays = [pa.array(columns[field.name], field.type) for field in _ROWS]
    return pa.Table.from_arrays(arrays, schema=_ROWS)


def dead_letter_headers(topic: str, partition: int, record: DeadRecord) -> Headers:
    """New headers behind the record's own, which stay as they were."""
    return (
        *writable(record.headers),
        ("dlq.reason", str(record.reason).encode()),
        ("dlq.detail", record.detail[:_DETAIL_LENGTH].encode("utf-8", "replace")),
        ("dlq.topic", topic.encode()),
        ("dlq.partition", str(partition).encode()),
        ("dlq.offset", str(record.offset).encode()),
        ("dlq.schema_id", b"" if record.schema_id is None else str(record.schema_id).encode()),
        ("dlq.worker_version", WORKER_VERSION.encode()),
    )


def without_what_is_large(record: DeadRecord) -> DeadRecord:
    """For a record that Kafka does not take: first its value stays away, then all but what we say
    of it. The table has all of it."""
    if record.value is not None:
        left_out = ("dlq.left_out", f"a value of {len(record.value)} bytes".encode())
        return replace(record, value=None, headers=(*record.headers, left_out))
    left_out = ("dlq.left_out", b"key, value and headers")
    return replace(record, key=None, headers=(left_out,))


class DeadLetterTopics:
    """Writes dead letters to the topics beside their sources, at least once.

    A batch that is formed again after a crash is told of again: `dlq.topic`, `dlq.partition` and
    `dlq.offset` say that it is the same one. The table has each once.
    """

    def __init__(
        self, kafka: KafkaSettings, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._sleep = sleep
        self._producer = LastingProducer(
            kafka,
            client_id="anabranch-dead-letters",
            max_request_size=_LARGEST_RECORD_BYTES,
        )

    async def publish(self, spec: TopicSpec, partition: int, dead: Sequence[DeadRecord]) -> None:
        """Return once Kafka has them, however long that takes."""
        waiting = list(dead)
        while waiting:
            answers = await self._try(spec, partition, waiting)
            large = [
                record
                for record, answer in zip(waiting, answers, strict=True)
                if isinstance(answer, MessageSizeTooLargeError)
            ]
            failed = [
                record
                for record, answer in zip(waiting, answers, strict=True)
                if answer is not None and record not in large
            ]
            if failed:
                await self._sleep(_RETRY_SECONDS)
            # A record may be large where its batch was not, for being compressed.
            waiting = [*map(without_what_is_large, large), *failed]

    async def _try(
        self, spec: TopicSpec, partition: int, dead: Sequence[DeadRecord]
    ) -> Sequence[BaseException | None]:
        """What was wrong with each; None for those that Kafka has."""
        try:
            producer = await self._producer.started()
        except (KafkaError, OSError) as error:
            _say_that_it_waits(spec, error)
            return [error] * len(dead)

        async def one(record: DeadRecord) -> None:
            headers = dead_letter_headers(spec.name, partition, record)
            assert spec.dead_letters is not None
            await (await send(producer, spec.dead_letters, record.key, record.value, headers))

        answers = await asyncio.gather(*map(one, dead), return_exceptions=True)
        problems = [answer for answer in answers if answer is not None]
        for problem in problems:
            if not isinstance(problem, (KafkaError, OSError)):
                raise problem
        passing = [p for p in problems if not isinstance(p, MessageSizeTooLargeError)]
        if passing:
            _say_that_it_waits(spec, passing[0])
            self._producer.replace(producer)
        return answers

    async def close(self) -> None:
        """Whatever is under way is formed again."""
        await self._producer.close()


def _say_that_it_waits(spec: TopicSpec, problem: BaseException) -> None:
    log.warning(
        "dead letters cannot be written; trying again",
        topic=spec.dead_letters,
        problem=repr(problem),
    )
