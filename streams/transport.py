"""A Faust transport that hands an agent one message for each fetched run of record batches.

Faust's own costs about 65 us a record in Python objects; this one never makes them. It is the one
file that touches what Faust and aiokafka keep to themselves. Each such use says why, and
`tests/live/test_transport.py` fails when one of them changes under us.

The messages of a partition carry a `Fetched`: batches whose positions follow each other. Faust may
drop a message around a rebalance; whoever takes them sees that by `RecordBatch.start`, and seeks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, ClassVar, cast

import aiokafka
from aiokafka.consumer import fetcher
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata
from aiokafka.structs import TopicPartition as KafkaTopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.kafka_log import Bounds, Committed, FencedError, Fetched, TopicPartition
from streams.record_batches import RecordBatch, split

SCHEME = "anabranch"

# How many bytes one fetch brings of a partition, and of all; what comes waits compressed.
PARTITION_FETCH_BYTES = 4 << 20
FETCH_BYTES = 32 << 20
FETCH_WAIT_MS = 500
RETRY_SECONDS = 0.1

_DAY_MS = 86_400_000

REBALANCED = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)


class _KeptBytes:
    """Stands where aiokafka's `MemoryRecords` stands, which keeps the bytes out of reach."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data or b""

    def has_next(self) -> bool:
        """Whether a whole batch is there; the tail of a fetch may be cut off."""
        if len(self.data) < _LENGTH_ENDS:
            return False
        length = int.from_bytes(self.data[8:_LENGTH_ENDS], "big")
        return len(self.data) >= _LENGTH_ENDS + length

    def size_in_bytes(self) -> int:
        return len(self.data)


_LENGTH_ENDS = 12


class _PartitionBatches(fetcher.PartitionRecords):  # type: ignore[misc]
    """Yields `RecordBatch`es where aiokafka's yields records."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[RecordBatch]:
        # Private: the method that makes records of bytes, and the attributes that it reads.
        committed_only = self._isolation_level == fetcher.READ_COMMITTED
        for batch in split(
            self._records.data,
            self.next_fetch_offset,
            aborted=self._aborted_transactions if committed_only else (),
            check_crc=self._check_crcs,
        ):
            self.next_fetch_offset = batch.last + 1
            yield batch


class _BatchFetcher(fetcher.Fetcher):  # type: ignore[misc]
    """The fetcher of our own consumers; every other in this process keeps aiokafka's."""

    # Private: the method that makes `MemoryRecords` and `PartitionRecords` of a response. It finds
    # them by name in its module, so here is the same code in a module where they are ours.
    _proc_fetch_request = FunctionType(
        fetcher.Fetcher._proc_fetch_request.__code__,
        {**vars(fetcher), "MemoryRecords": _KeptBytes, "PartitionRecords": _PartitionBatches},
    )


def deliver_batches(consumer: Any) -> None:
    """From now on it yields `RecordBatch`es. For a consumer that has started and fetches nothing
    yet: one without an assignment."""
    # Private: where a consumer keeps its fetcher.
    consumer._fetcher.__class__ = _BatchFetcher


class _Message:
    """What Faust asks of a record, for a whole run of batches."""

    __slots__ = ("offset", "partition", "timestamp", "topic", "value")
    headers: ClassVar[tuple[()]] = ()
    key = checksum = None
    timestamp_type = serialized_key_size = serialized_value_size = 0

    def __init__(self, tp: TP, batches: list[RecordBatch]) -> None:
        self.topic, self.partition = tp
        self.offset = batches[-1].last
        self.timestamp = batches[-1].max_timestamp_ms
        self.value = Fetched(tuple(batches))


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread. What is called here from outside goes through `call_thread`."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        # Private: Faust's own waits up to 1.5 s for a fetch, and cannot leave aborted records out.
        conf = self.app.conf
        self._assignor = RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            **transport.client_options,
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            # The worker watches its own progress; held back, it does not poll.
            max_poll_interval_ms=_DAY_MS,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            metadata_max_age_ms=5_000,  # how soon a new partition is seen
        )

    async def on_start(self) -> None:
        await super().on_start()
        deliver_batches(self._ensure_consumer())  # the subscription comes after the start

    async def on_thread_stop(self) -> None:
        consumer = self._consumer
        if consumer is not None and consumer._coordinator is not None:
            # Private: a static member does not say goodbye, and its partitions would rest until its
            # session ends. Whoever stops on purpose leaves, so that others take over at once.
            consumer._coordinator._group_instance_id = None
        await super().on_thread_stop()

    async def commit_entries(
        self,
        entries: Mapping[TopicPartition, Committed],
        generation: int,
        unwanted: threading.Event,
    ) -> None:
        # Private: the public `commit` tries again under whatever generation the group has by then,
        # and without one when it was thrown out, which Kafka takes from anybody while a group is
        # empty. An entry counts only under the generation that the ledger was read in.
        coordinator = self._ensure_consumer()._coordinator
        offsets = {
            KafkaTopicPartition(*place): OffsetAndMetadata(*entry)
            for place, entry in entries.items()
        }
        while True:
            await coordinator.ensure_coordinator_known()
            try:
                async with coordinator._commit_lock:
                    if coordinator.generation != generation:
                        raise FencedError(f"the group is past generation {generation}")
                    if unwanted.is_set():
                        # Whoever waited has been cancelled, which does not reach this thread. A
                        # static member may be back under the same generation by now.
                        raise FencedError("nobody waits for this commit any more")
                    await coordinator._do_commit_offsets(None, offsets)
            except (
                UnknownMemberIdError,
                IllegalGenerationError,
                RebalanceInProgressError,
            ) as error:
                raise FencedError(f"the group has rebalanced: {error!r}") from error
            except KafkaError as error:
                if not error.retriable:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def read_entries(
        self, places: Iterable[TopicPartition]
    ) -> tuple[dict[TopicPartition, Committed], int]:
        # Private: the public `committed` gives the offset without its metadata.
        coordinator = self._ensure_consumer()._coordinator
        partitions = [KafkaTopicPartition(*place) for place in places]
        generation = coordinator.generation
        found = await coordinator.fetch_committed_offsets(partitions)
        if generation < 0 or coordinator.generation != generation:
            raise FencedError("the group rebalanced while the ledger was read")
        entries = {
            TopicPartition(*place): Committed(entry.offset, entry.metadata)
            for place, entry in found.items()
        }
        return entries, generation

    async def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        consumer = self._ensure_consumer()
        partitions = [KafkaTopicPartition(*place) for place in places]
        while True:
            try:
                starts = await consumer.beginning_offsets(partitions)
                ends = await consumer.end_offsets(partitions)
            except KafkaError as error:
                if not (error.retriable or isinstance(error, KafkaTimeoutError)):
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return {TopicPartition(*p): Bounds(starts[p], ends[p]) for p in partitions}

    async def seek_back(self, place: TopicPartition, offset: int) -> None:
        try:
            await self.seek_wait({TP(*place): offset})
        except IllegalStateError as error:
            raise FencedError(f"{place} is not assigned any more") from error

    async def first_after(self, place: TopicPartition, timestamp_ms: int) -> int | None:
        partition = KafkaTopicPartition(*place)
        found = await self._ensure_consumer().offsets_for_times({partition: timestamp_ms + 1})
        return None if found[partition] is None else int(found[partition].offset)


class Consumer(driver.Consumer):
    """Delivers runs of batches, and holds partitions back that are not wanted now."""

    _thread: ConsumerThread

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._held_back: set[TP] = set()
        super().__init__(*arguments, **options)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def hold_back(self, place: TopicPartition) -> None:
        # Not Faust's `pause_partitions`: that throws away what a fetch under way brings. What was
        # fetched of this one stays with aiokafka, which then fetches no more of it.
        self._held_back.add(TP(*place))

    def let_go(self, place: TopicPartition) -> None:
        self._held_back.discard(TP(*place))

    async def _getmany(
        self, active_partitions: set[TP] | None, timeout: float
    ) -> dict[TP, list[_Message]]:
        # Private, and called with these names. An empty set would mean every partition.
        wanted = (active_partitions or set()) - self._held_back
        if not wanted:
            await self.sleep(0.05)
            return {}
        # Short, so that a partition let go is heard soon.
        found = await super()._getmany(active_partitions=wanted, timeout=min(timeout, 0.25))
        return {tp: [_Message(tp, batches)] for tp, batches in found.items() if batches}

    async def perform_seek(self) -> None:
        # Not Faust's: that asks Kafka where to begin, and when Kafka goes away meanwhile, the flow
        # is never resumed. aiokafka begins at the commit by itself; whoever takes the batches knows
        # from the ledger where to go on, and seeks. Private: below it, Faust would drop messages.
        self._read_offset.clear()

    def _to_message(self, tp: TP, record: _Message) -> Any:
        message = super()._to_message(tp, record)
        message.value = cast(Any, record.value)
        return message

    async def commit_entries(
        self, entries: Mapping[TopicPartition, Committed], generation: int
    ) -> None:
        unwanted = threading.Event()
        try:
            await self._thread.call_thread(
                self._thread.commit_entries, entries, generation, unwanted
            )
        finally:
            unwanted.set()

    async def read_entries(
        self, places: Iterable[TopicPartition]
    ) -> tuple[dict[TopicPartition, Committed], int]:
        found = await self._thread.call_thread(self._thread.read_entries, tuple(places))
        return cast(tuple[dict[TopicPartition, Committed], int], found)

    async def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        found = await self._thread.call_thread(self._thread.bounds, tuple(places))
        return cast(dict[TopicPartition, Bounds], found)

    async def first_after(self, place: TopicPartition, timestamp_ms: int) -> int | None:
        found = await self._thread.call_thread(self._thread.first_after, place, timestamp_ms)
        return cast(int | None, found)

    async def seek_back(self, place: TopicPartition, offset: int) -> None:
        await self._thread.seek_back(place, offset)

    @property
    def refusal(self) -> KafkaError | None:
        """Why Kafka does not have this worker in its group, when trying again is of no use."""
        # Private: aiokafka tells it to whoever asks for records, and a worker that was given no
        # partition asks for none.
        consumer = self._thread._consumer
        coordinator = None if consumer is None else consumer._coordinator
        found: KafkaError | None = getattr(coordinator, "_pending_exception", None)
        return None if found is None or found.retriable else found

    def end(self, place: TopicPartition) -> int | None:
        try:
            return self.highwater(TP(*place))
        except AssertionError:  # the other thread has just given the partition away
            return None

    def readable_end(self, place: TopicPartition) -> int | None:
        # Private: Faust hands on the end of the log, and open transactions lie before that.
        consumer = self._thread._ensure_consumer()
        try:
            found = consumer.last_stable_offset(KafkaTopicPartition(*place))
            return cast(int | None, found)
        except AssertionError:
            return None


class Transport(driver.Transport):
    """`anabranch://host:port`. `client_options` is set before the worker starts."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    client_options: Mapping[str, Any] = {}
    driver_version = f"anabranch on {driver.Transport.driver_version}"
