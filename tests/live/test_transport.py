"""The transport on a real broker, and a watch on what it uses of Faust's and aiokafka's own.

Each private thing that `streams/transport.py` leans on is named here: when an upgrade changes one,
a test of this file says which.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.drivers import aiokafka as driver
from faust.transport.drivers import by_url
from yarl import URL

from schemas.topics import TURN_METRICS
from service.settings import TopicSettings
from streams.app import build_app, place_of, source
from streams.kafka_log import Committed, FencedError, Fetched, TopicPartition
from streams.settings import WorkerSettings
from streams.topic_admin import admin_client, ensure_topics
from streams.transport import Consumer, ConsumerThread, Transport
from tests.live.kafka_fixture import Broker
from tests.live.processes import ANABRANCH

PLACE = TopicPartition(TURN_METRICS.name, 0)


class Taker:
    """An agent that keeps what it is given."""

    def __init__(self, app: faust.App) -> None:
        self.app = app
        self.fetched: list[tuple[TopicPartition, Fetched]] = []
        self.assigned, self.more = asyncio.Event(), asyncio.Event()
        app.on_partitions_assigned.connect(self._note, weak=False)

        @app.agent(source(app, TURN_METRICS), name="taker", concurrency=1)
        async def taker(stream: Any) -> None:
            async for event in stream.noack().events():
                self.fetched.append((place_of(event), event.message.value))
                self.more.set()

    async def _note(self, *_: Any, **__: Any) -> None:
        self.assigned.set()

    @property
    def consumer(self) -> Consumer:
        consumer: Any = self.app.consumer
        assert isinstance(consumer, Consumer)
        return consumer

    def values(self) -> list[bytes | None]:
        return [
            record.value
            for _, fetched in self.fetched
            for batch in fetched.batches
            for record in batch.records()
        ]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.values()) < count:
                self.more.clear()
                await self.more.wait()


@asynccontextmanager
async def running(broker: Broker, **settings: Any) -> AsyncIterator[Taker]:
    worker = WorkerSettings(session_timeout_seconds=6, **settings)
    taker = Taker(build_app(worker, broker.settings, broker.state / "faust"))
    await taker.app.start()
    async with asyncio.timeout(30):
        await taker.assigned.wait()
    try:
        yield taker
    finally:
        await taker.app.stop()


@pytest.fixture
async def broker(own_kafka: Broker) -> Broker:
    async with admin_client(own_kafka.settings) as admin:
        await admin.create_topics([NewTopic(TURN_METRICS.name, 1, 1)])
    return own_kafka


async def produce(broker: Broker, *values: bytes, **options: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, **options)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(TURN_METRICS.name, value, partition=0)
    finally:
        await producer.stop()


def test_transport_is_found_by_its_scheme() -> None:
    assert by_url(URL("anabranch://127.0.0.1:9092")) is Transport


async def test_agent_gets_runs_of_batches_whose_positions_follow_each_other(
    broker: Broker,
) -> None:
    async with running(broker, group="follow") as taker:
        await produce(broker, b"a", b"b", b"c")
        await taker.until(3)
        assert taker.values() == [b"a", b"b", b"c"]
        position = 0
        for place, fetched in taker.fetched:
            assert place == PLACE
            for batch in fetched.batches:
                assert batch.start == position
                position = batch.last + 1


async def test_aborted_transactions_leave_positions_and_no_records(broker: Broker) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id="t1")
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait(TURN_METRICS.name, b"never", partition=0)
    await producer.abort_transaction()
    await producer.begin_transaction()
    await producer.send_and_wait(TURN_METRICS.name, b"good", partition=0)
    await producer.commit_transaction()
    await producer.stop()
    async with running(broker, group="aborted") as taker:
        await taker.until(1)
        assert taker.values() == [b"good"]


async def test_partition_held_back_delivers_nothing_and_loses_nothing(broker: Broker) -> None:
    async with running(broker, group="held") as taker:
        taker.consumer.hold_back(PLACE)
        await asyncio.sleep(0.6)  # a fetch that was under way before may still bring something
        taker.fetched.clear()
        await produce(broker, b"a", b"b")
        await asyncio.sleep(1.0)
        assert taker.values() == []
        taker.consumer.let_go(PLACE)
        await taker.until(2)
        assert taker.values() == [b"a", b"b"]


async def test_entries_keep_their_metadata_and_carry_the_generation(broker: Broker) -> None:
    async with running(broker, group="entries") as taker:
        none, generation = await taker.consumer.read_entries([PLACE])
        assert none.get(PLACE, Committed(-1, "")).offset == -1
        entry = Committed(5, "anabranch 1 abcd1234 9")
        await taker.consumer.commit_entries({PLACE: entry}, generation)
        assert await taker.consumer.read_entries([PLACE]) == ({PLACE: entry}, generation)
        with pytest.raises(FencedError):
            await taker.consumer.commit_entries({PLACE: entry}, generation - 1)


async def test_seek_back_delivers_again_from_there(broker: Broker) -> None:
    async with running(broker, group="seek") as taker:
        await produce(broker, b"a", b"b", b"c")
        await taker.until(3)
        taker.fetched.clear()
        await taker.consumer.seek_back(PLACE, 1)
        await taker.until(2)
        assert taker.values() == [b"b", b"c"]
        assert taker.fetched[0][1].batches[0].start == 1


async def test_bounds_and_first_after_tell_what_the_log_holds(broker: Broker) -> None:
    await produce(broker, b"a", b"b")
    async with running(broker, group="bounds") as taker:
        assert await taker.consumer.bounds([PLACE]) == {PLACE: (0, 2)}
        assert await taker.consumer.first_after(PLACE, 0) == 0
        assert await taker.consumer.first_after(PLACE, 1 << 42) is None


async def test_static_member_leaves_the_group_when_it_stops(broker: Broker) -> None:
    async with running(broker, group="static", name="w1"):
        pass
    async with admin_client(broker.settings) as admin:
        (group,) = (await admin.describe_consumer_groups(["static"]))[0].groups
    assert group[2] == "Empty", group


async def test_other_consumers_of_the_process_get_records_as_ever(broker: Broker) -> None:
    await produce(broker, b"a")
    async with running(broker, group="others") as taker:
        await taker.until(1)
        plain = AIOKafkaConsumer(
            TURN_METRICS.name, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
        )
        await plain.start()
        try:
            async with asyncio.timeout(20):
                assert (await plain.getone()).value == b"a"
        finally:
            await plain.stop()


def test_what_is_private_is_still_there_and_called_as_before() -> None:
    """Read with the comments in `streams/transport.py`."""
    assert list(inspect.signature(driver.Consumer._getmany).parameters) == [
        *("self", "active_partitions", "timeout"),
    ]
    code = fetcher.Fetcher._proc_fetch_request.__code__
    assert {"MemoryRecords", "PartitionRecords"} <= set(code.co_names)
    assert not code.co_freevars
    assert list(inspect.signature(fetcher.PartitionRecords.__init__).parameters)[1:4] == [
        *("tp", "records", "aborted_transactions"),
    ]
    assert "_unpack_records" in vars(fetcher.PartitionRecords)
    assert list(inspect.signature(GroupCoordinator._do_commit_offsets).parameters) == [
        *("self", "assignment", "offsets"),
    ]
    assert "_pending_exception" in inspect.getsource(GroupCoordinator.check_errors)
    maybe_leave = inspect.getsource(GroupCoordinator._maybe_leave_group)
    assert "self._group_instance_id is None" in maybe_leave
    for name in ("_create_worker_consumer", "on_start", "on_thread_stop", "call_thread"):
        assert hasattr(ConsumerThread, name)
    assert "consumer.perform_seek()" in inspect.getsource(Recovery._resume_streams)
    drops_below = inspect.getsource(FaustConsumer.getmany) + inspect.getsource(FaustConsumer.seek)
    assert "self._read_offset" in drops_below


async def test_worker_ends_and_says_why_when_the_group_does_not_take_it(
    own_kafka: Broker, tmp_path: Path
) -> None:
    """Kafka's own limit is 6 s: only the brokers know it."""
    await ensure_topics(own_kafka.settings, TopicSettings())
    environment = {name: value for name, value in os.environ.items() if "ANABRANCH_" not in name}
    process = await asyncio.create_subprocess_exec(
        *(*ANABRANCH, "worker", "--state", str(tmp_path), "--port", "0"),
        env={
            **environment,
            "ANABRANCH_KAFKA__BOOTSTRAP": own_kafka.bootstrap,
            "ANABRANCH_WORKER__SESSION_TIMEOUT_SECONDS": "2",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 1
    last = said.decode().splitlines()[-1]
    assert "ANABRANCH_WORKER__SESSION_TIMEOUT_SECONDS is 2" in last
    assert "group.min.session.timeout.ms" in last
