"""Records that no worker can store, of every kind, and good ones to mix them with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from anabranch import Event, ExposureRef, Outcome, TurnMetric
from anabranch.encoding import Encoder
from anabranch.registry import Registry
from anabranch.settings import RegistrySettings
from tests.live.worker_fixture import Surroundings

TOPIC = TurnMetric.TOPIC
DAY_MS = 86_400_000
LARGE = 900_000

Headers = tuple[tuple[str, bytes], ...]


class Sent(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Poison(NamedTuple):
    record: Sent
    reason: str
    says: str
    """Words that the detail has."""


def turn(session: str, number: int, **fields: object) -> TurnMetric:
    """`number` is stored as `turn_ms`."""
    made = TurnMetric(
        event_id=f"{session}-{number}",
        session=session,
        player=f"p-{session}",
        locale="en",
        exposures=(ExposureRef(experiment="tone", version=1, variation="warm", unit=session),),
        turn_ms=number,
        model_ms=1,
        bundle_tokens=2,
        output_tokens=3,
        retries=0,
        fallbacks=0,
        tool_calls=0,
        acts=1,
        choices=1,
        time_ticks=1,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


class Encoding:
    """As the SDK writes events, and not held against their meaning."""

    def __init__(self, around: Surroundings) -> None:
        self._registry = Registry(RegistrySettings(url=around.service.url))
        self._encoders: dict[type[Event], Encoder] = {}

    def record(self, event: Event, headers: Headers = ()) -> Sent:
        kind = type(event)
        if kind not in self._encoders:
            schema_id = self._registry.id_of(f"{kind.TOPIC}-value", kind.SCHEMA)
            self._encoders[kind] = Encoder(kind, schema_id)
        return Sent(*self._encoders[kind].encode(event), headers)

    def good(self, session: str, numbers: Sequence[int], headers: Headers = ()) -> list[Sent]:
        return [self.record(turn(session, number), headers) for number in numbers]

    def poison(self, session: str) -> Iterator[Poison]:
        """One of each kind, for the topic of turns."""
        now = int(time.time() * 1000)
        key, whole, _ = self.record(turn(session, 1))
        assert key is not None
        assert whole is not None
        traced = (("trace", b"\x00\xff\x1b[31m"),)

        def invalid(**fields: object) -> Sent:
            return self.record(turn(session, 1, **fields), traced)

        half = whole[: len(whole) // 2]
        yield Poison(Sent(key, half, traced), "truncated", "the bytes end before")
        yield Poison(Sent(key, whole[:3]), "truncated", "3 bytes are too few")
        yield Poison(Sent(key, b""), "truncated", "0 bytes are too few")
        yield Poison(Sent(key, b"\x01" + whole[1:], traced), "bad_magic", "first byte is 1")
        yield Poison(Sent(None, b'{"type":"turn_metric"}'), "bad_magic", "first byte is 123")
        unknown = b"\x00" + (99_999).to_bytes(4, "big") + whole[5:]
        yield Poison(Sent(key, unknown), "unknown_schema", "schema 99999 is not known")
        largest = b"\x00\xff\xff\xff\xff" + whole[5:]
        yield Poison(Sent(key, largest), "unknown_schema", "schema 4294967295 is not known")
        other = self.record(Outcome(unit=session, values={"cost": 1.0}))
        yield Poison(other, "wrong_schema", "Outcome")
        yield Poison(Sent(key, whole + b"more"), "undecodable", "4 bytes are left over")
        yield Poison(
            Sent(key, whole.replace(b"\x04en", b"\x04\xff\xff")), "undecodable", "not a rec"
        )
        yield Poison(invalid(turn_ms=-5), "invalid", "turn_ms")
        yield Poison(invalid(locale="x" * LARGE), "invalid", "locale")
        yield Poison(invalid(player="\x1b]0;owned\x07"), "invalid", "player")
        yield Poison(invalid(ts=now + DAY_MS), "time_out_of_range", "ts is")
        yield Poison(invalid(ts=now - 500 * DAY_MS), "time_out_of_range", "ts is")
        yield Poison(Sent(key, None, traced), "empty", "no value")
        yield Poison(Sent(None, None), "empty", "no value")


async def put(
    around: Surroundings, records: Sequence[Sent], partition: int = 0, topic: str = TOPIC
) -> list[int]:
    """All in as few record batches as hold them; the offset of each."""
    producer = AIOKafkaProducer(
        bootstrap_servers=around.kafka.bootstrap, max_batch_size=1_000_000, acks="all"
    )
    await producer.start()
    try:
        offsets: list[int] = []
        waiting = list(records)
        while waiting:
            batch = producer.create_batch()
            taken = 0
            for key, value, headers in waiting:
                if not batch.append(key=key, value=value, timestamp=None, headers=list(headers)):
                    break
                taken += 1
            sent = await (await producer.send_batch(batch, topic, partition=partition))
            offsets += range(sent.offset, sent.offset + taken)
            del waiting[:taken]
        return offsets
    finally:
        await producer.stop()


async def records_of(around: Surroundings, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """Everything in a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=around.kafka.bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(4)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            consumer.seek(place, 0)
        found: list[ConsumerRecord[bytes, bytes]] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
        return found
    finally:
        await consumer.stop()
