"""The way of one topic: what is needed before its events can be encoded, and its lanes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from anabranch.encoding import Encoder, partition_of
from anabranch.fields import Event
from anabranch.intake import Intake, Taken
from anabranch.kafka import KafkaError, Producer
from anabranch.lanes import Lane, Record
from anabranch.registry import Registry, RegistryError
from anabranch.settings import EmitterSettings

logger = logging.getLogger(__name__)

_CHUNK = 500
_RETRY_SECONDS = 1.0
_LOG_EVERY_SECONDS = 30.0
Answer = TypeVar("Answer")


class Route:
    def __init__(
        self, kind: type[Event], intake: Intake, registry: Registry, settings: EmitterSettings
    ) -> None:
        self.events: deque[Taken] = deque()
        self.lanes: dict[int, Lane] = {}
        self.busy = False
        self._encoding = False
        self._kind = kind
        self._intake = intake
        self._registry = registry
        self._settings = settings
        self._encoder: Encoder | None = None
        self._logged_at = -_LOG_EVERY_SECONDS

    @property
    def waiting(self) -> bool:
        return bool(self.events) or any(lane.records for lane in self.lanes.values())

    def renew(self) -> None:
        """The tasks of the producer before are gone, wherever they were."""
        self.busy = self._encoding = False
        for lane in self.lanes.values():
            lane.sending = False

    async def encode_all(self, producer: Producer, start: Callable[[Route, Lane], None]) -> None:
        """Returns when every event is in a lane, and each lane that holds some was started."""
        encoder = await self._ready_encoder()
        partitions = await self._partition_count(producer)
        self._encoding = True
        while self.events:
            self._encode(encoder, partitions)
            for lane in self.lanes.values():
                if self.is_due(lane):
                    start(self, lane)
            await asyncio.sleep(0)  # acknowledgements and other topics have their turn
        self.busy = self._encoding = False
        for lane in self.lanes.values():
            start(self, lane)

    def is_due(self, lane: Lane) -> bool:
        """Whether a batch need not wait for more: none is coming, or it is full or old enough."""
        return (
            not self._encoding
            or lane.bytes >= self._settings.batch_bytes
            or time.monotonic() - lane.packed_at >= self._settings.linger_ms / 1000
        )

    def _encode(self, encoder: Encoder, partitions: int) -> None:
        for _ in range(min(_CHUNK, len(self.events))):
            event, at = self.events.popleft()
            try:
                key, value = encoder.encode(event)
            except Exception:  # fastavro raises many kinds for a value that does not fit
                self._intake.drop("unencodable", 1, exc_info=True)
                continue
            partition = partition_of(key, partitions)
            lane = self.lanes.get(partition)
            if lane is None:
                patience = self._settings.delivery_timeout_seconds
                lane = Lane(self._kind.TOPIC, partition, self._intake, patience)
                self.lanes[partition] = lane
            lane.add(Record(key, value, at))

    async def _ready_encoder(self) -> Encoder:
        while self._encoder is None:
            topic = self._kind.TOPIC
            schema_id = self._settings.schema_ids.get(topic)
            try:
                if schema_id is None:
                    subject, schema = f"{topic}-value", self._kind.SCHEMA
                    schema_id = await beside(partial(self._registry.id_of, subject, schema))
            except RegistryError as error:
                await self._wait(f"has no schema id yet: {error}")
            else:
                self._encoder = Encoder(self._kind, schema_id)
        return self._encoder

    async def _partition_count(self, producer: Producer) -> int:
        while True:
            try:
                if count := len(await producer.partitions_for(self._kind.TOPIC)):
                    return count
                problem = "has no partitions"
            except KafkaError as error:
                problem = f"is not known to Kafka: {error}; `anabranch topics --create` makes it"
            await self._wait(problem)

    async def _wait(self, problem: str) -> None:
        self._intake.failed()
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            logger.warning("topic %s %s; trying again", self._kind.TOPIC, problem)
        self.expire(now)
        await asyncio.sleep(_RETRY_SECONDS)

    def expire(self, now: float) -> None:
        count = 0
        while self.events and self.events[0].at + self._settings.delivery_timeout_seconds <= now:
            self.events.popleft()
            count += 1
        if count:
            self._intake.drop("delivery_timeout", count)
        for lane in self.lanes.values():
            if not lane.sending:
                lane.expire(now)

    def oldest(self) -> Iterator[float]:
        """When the first event of each of its queues was taken."""
        if self.events:
            yield self.events[0].at
        for lane in self.lanes.values():
            if lane.records:
                yield lane.records[0].at


async def beside(ask: Callable[[], Answer]) -> Answer:
    """In a daemon thread, unlike asyncio's own, which the end of the process would wait for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Answer] = loop.create_future()

    def settle(result: Answer | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # None only beside an error

    def run() -> None:
        result, failure = None, None
        try:
            result = ask()
        except Exception as error:  # carried over to the one who waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    try:
        threading.Thread(target=run, name="anabranch-registry", daemon=True).start()
    except RuntimeError:
        return ask()  # from 3.12 on no thread starts once the interpreter ends
    return await answer
