"""Topics made, compared, listed and followed on the real broker."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import signal
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from anabranch.events import Outcome
from anabranch.registry import Registry
from anabranch.settings import RegistrySettings
from schemas.releases import latest
from schemas.topics import CATALOGUE, OUTCOMES
from service.settings import TopicSettings
from streams.decoding import Decoder
from streams.tail import Tail, TailedRecord, limited
from streams.topic_admin import TopicError, ensure_topics
from streams.topic_listing import list_topics
from tests.live.kafka_fixture import Broker

# Nothing listens there: the decoder falls back to our own releases.
NO_REGISTRY = RegistrySettings(url="http://127.0.0.1:1", timeout_seconds=1)


OTHER_CONFIG = OUTCOMES.config(replication=1) | {"retention.ms": "3600000"}


def wire(event: Outcome) -> bytes:
    release = latest(OUTCOMES.subject)
    assert release is not None
    schema = json.loads(event.SCHEMA)
    schema["fields"][1]["type"] = "long"  # ts
    body = io.BytesIO()
    body.write(struct.pack(">bI", 0, release.id))
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), event.avro())
    return body.getvalue()


@contextlib.asynccontextmanager
async def producer(kafka: Broker) -> AsyncIterator[Any]:
    client = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


def tail(kafka: Broker, notice: Callable[[str], None] = print) -> Tail:
    return Tail(kafka.settings, Decoder(Registry(NO_REGISTRY)), notice)


async def taken(records: AsyncGenerator[TailedRecord, None], count: int) -> list[TailedRecord]:
    async with asyncio.timeout(30):
        return [record async for record in limited(records, count)]


async def test_topics_are_created_once_and_a_differing_one_is_left_alone(own_kafka: Broker) -> None:
    with pytest.raises(TopicError, match=r"exposures\.v1 cannot be created: .*replicat"):
        await ensure_topics(own_kafka.settings, TopicSettings(replication=3))
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.bootstrap)
    await admin.start()
    made = NewTopic("outcomes.v1", 2, 1, topic_configs=OTHER_CONFIG)
    await admin.create_topics([made])
    settings = TopicSettings(partitions=3)

    report = await ensure_topics(own_kafka.settings, settings)
    assert set(report.created) == {topic.name for topic in CATALOGUE} - {"outcomes.v1"}
    assert [str(difference) for difference in report.differences] == [
        "outcomes.v1: partitions is 2, should be 3",
        "outcomes.v1: retention.ms is 3600000, should be 1209600000",
    ]
    again = await ensure_topics(own_kafka.settings, settings)
    assert again.created == ()
    assert again.differences == report.differences
    (seen,) = await admin.describe_topics(["outcomes.v1"])
    assert len(seen["partitions"]) == 2
    await admin.close()

    listing = await list_topics(own_kafka.settings)
    assert listing.missing == ()
    assert {state.topic for state in listing.partitions} == {topic.name for topic in CATALOGUE}


async def test_tail_shows_events_dead_letters_and_lag(kafka: Broker) -> None:
    await ensure_topics(kafka.settings, TopicSettings())
    begun = datetime.now(UTC)  # the topics are shared: other tests wrote to them before
    marker = Outcome(unit="tail-\u202e\x1b", values={"purchase": 1}, dimensions={"os": "ios"})
    async with producer(kafka) as client:
        sent = await client.send_and_wait("outcomes.v1", wire(marker), key=b"tail")
        headers = [("dlq.reason", b"not_avro")]
        await client.send_and_wait("outcomes.v1.dead", b"junk\x1b", key=b"tail", headers=headers)

    seen = [
        record
        for record in await taken(tail(kafka).records("outcomes.v1", begun), 1)
        if record.event is not None
    ]
    assert seen[0].event is not None
    assert seen[0].event["values"] == {"purchase": 1.0}
    assert seen[0].event["dimensions"] == {"os": "ios"}
    (dead,) = await taken(tail(kafka).records("outcomes.v1.dead", begun), 1)
    assert dead.problem == "the first byte is 106, and should be 0"
    assert dead.headers == (("dlq.reason", b"not_avro"),)

    place = TopicPartition("outcomes.v1", sent.partition)
    group = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, group_id="test-lag", enable_auto_commit=False
    )
    await group.start()
    group.assign([place])
    await group.commit({place: sent.offset})
    await group.stop()
    listing = await list_topics(kafka.settings)
    state = next(s for s in listing.partitions if (s.topic, s.partition) == place)
    assert state.lag["test-lag"] == state.end - sent.offset
    assert not any("tail" in group for each in listing.partitions for group in each.lag)


async def test_tail_of_an_unknown_topic_lists_those_there_are(kafka: Broker) -> None:
    await ensure_topics(kafka.settings, TopicSettings())
    with pytest.raises(TopicError, match=r"no topic 'outcome'; there are: .*outcomes\.v1"):
        await taken(tail(kafka).records("outcome", "end"), 1)
    with pytest.raises(TopicError, match="no topic 'outcome'"):  # it was not created by asking
        await taken(tail(kafka).records("outcome", "end"), 1)


async def test_tail_says_when_kafka_goes_and_goes_on_when_it_is_back(own_kafka: Broker) -> None:
    await ensure_topics(own_kafka.settings, TopicSettings(partitions=1))
    notices: asyncio.Queue[str] = asyncio.Queue()
    records = tail(own_kafka, notices.put_nowait).records("outcomes.v1", "beginning")
    event = Outcome(unit="u1", values={"a": 1})
    async with producer(own_kafka) as client:
        await client.send_and_wait("outcomes.v1", wire(event))
    assert (await anext(records)).event is not None

    following = asyncio.create_task(anext(records))
    await asyncio.to_thread(own_kafka.stop)
    async with asyncio.timeout(30):
        assert "does not answer; trying again" in await notices.get()
    await asyncio.to_thread(own_kafka.start)
    async with producer(own_kafka) as client:
        await client.send_and_wait("outcomes.v1", wire(event))
    async with asyncio.timeout(60):
        assert (await following).offset == 1
    await records.aclose()


async def test_tail_command_prints_json_lines_when_piped_and_ends_on_ctrl_c(kafka: Broker) -> None:
    await ensure_topics(kafka.settings, TopicSettings())
    begun = datetime.now(UTC).isoformat()
    async with producer(kafka) as client:
        await client.send_and_wait("invites.v1", b"junk\x1b[2J", key=b"\x1b]0;title\x07")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.main", "tail", "invites.v1", "--since", begun),
        env={
            "ANABRANCH_KAFKA__BOOTSTRAP": kafka.bootstrap,
            "ANABRANCH_REGISTRY__URL": NO_REGISTRY.url,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        line = (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert json.loads(line)["hex"] == b"junk\x1b[2J".hex()
    assert line.isascii()
    assert "\x1b" not in line
    assert process.returncode == 130
    assert errors == b""
