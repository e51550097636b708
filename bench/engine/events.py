"""The events of the job: turn metrics as the SDK makes them, brought to Kafka once, and their sums.

"Easy data": eight groups (experiment, variation, locale), one minute of event time, a hundred
thousand sessions, one exposure each. The bodies come from a pool that is encoded once; the event's
id and time, its first two fields, are written anew for every event.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, cast

from aiokafka import AIOKafkaProducer

from anabranch import EmitterSettings, ExposureRef, KafkaSettings, Pseudonyms, TurnMetric
from anabranch.encoding import Encoder, partition_of
from anabranch.kafka import Batch, open_producer
from schemas.releases import latest
from schemas.topics import TURN_METRICS

SESSIONS = 100_000
PLAYERS = 40_000
PARTITIONS = 4
MINUTE_MS = 60_000
NUMBERS = (
    *("turn_ms", "model_ms", "bundle_tokens", "output_tokens", "retries", "fallbacks"),
    *("tool_calls", "acts", "choices", "time_ticks"),
)
_GROUPS = tuple(product(("npc_tone", "hint_budget"), ("control", "warm"), ("en", "pt-BR")))
_ID = "0" * 32


class Group(NamedTuple):
    experiment: str
    variation: str
    locale: str


@dataclass(slots=True)
class Sums:
    """Of one group in the one minute."""

    n: int = 0
    turn_ms: int = 0
    turn_ms_sq: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Truth:
    """What every contestant has to end with."""

    events: int
    minute_ms: int
    groups: Mapping[Group, Sums]
    numbers: Mapping[str, int]
    """The sum of each number over all events."""


class Body(NamedTuple):
    event: TurnMetric
    key: bytes
    head: bytes  # wire format, and the length of the id
    tail: bytes  # all that follows the time
    partition: int


@dataclass(slots=True)
class Pool:
    """Bodies for SESSIONS sessions, and a minute of the recent past that all events lie in."""

    minute_ms: int
    bodies: list[Body] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.minute_ms % MINUTE_MS == 0
        choose = random.Random(4)
        pseudonyms = Pseudonyms(b"the bench of the engine, 32 bytes")
        players = [pseudonyms.player(str(number)) for number in range(PLAYERS)]
        encoder = Encoder(TurnMetric, schema_id())
        for number in range(SESSIONS):
            session = pseudonyms.session(str(number))
            event = _turn(choose, session, choose.choice(players), self.minute_ms, number)
            key, value = encoder.encode(event)
            before, _, after = value.partition(_ID.encode())
            tail = after[len(_varint(event.ts)) :]
            self.bodies.append(Body(event, key, before, tail, partition_of(key, PARTITIONS)))

    def records(self, events: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Partition, key and value of each: time goes on through the minute from first to last."""
        ids = random.Random(5)
        times = [_varint(self.minute_ms + ms) for ms in range(MINUTE_MS)]
        for number in range(events):
            body = self.bodies[number % SESSIONS]
            event_id = b"%032x" % ids.getrandbits(128)
            time = times[number * MINUTE_MS // events]
            yield body.partition, body.key, body.head + event_id + time + body.tail

    def truth(self, events: int) -> Truth:
        groups: dict[Group, Sums] = defaultdict(Sums)
        numbers = dict.fromkeys(NUMBERS, 0)
        rounds, left = divmod(events, SESSIONS)
        for number, body in enumerate(self.bodies):
            times = rounds + (number < left)
            event, (exposure,) = body.event, body.event.exposures
            sums = groups[Group(exposure.experiment, exposure.variation, event.locale)]
            sums.n += times
            sums.turn_ms += times * event.turn_ms
            sums.turn_ms_sq += times * event.turn_ms**2
            sums.output_tokens += times * event.output_tokens
            for name in NUMBERS:
                numbers[name] += times * getattr(event, name)
        return Truth(events, self.minute_ms, dict(groups), numbers)


def schema_id() -> int:
    release = latest(TURN_METRICS.subject)
    assert release is not None
    return release.id


def _turn(
    choose: random.Random, session: str, player: str, minute_ms: int, number: int
) -> TurnMetric:
    experiment, variation, locale = _GROUPS[number % len(_GROUPS)]
    model_ms = choose.randrange(100, 3_000)
    return TurnMetric(
        event_id=_ID,
        ts=minute_ms,
        session=session,
        player=player,
        locale=locale,
        exposures=(
            ExposureRef(experiment=experiment, version=3, variation=variation, unit=session),
        ),
        turn_ms=model_ms + choose.randrange(50, 1_000),
        model_ms=model_ms,
        bundle_tokens=choose.randrange(500, 4_000),
        output_tokens=choose.randrange(50, 900),
        retries=int(choose.random() < 0.02),
        fallbacks=int(choose.random() < 0.005),
        tool_calls=choose.randrange(4),
        acts=choose.randrange(1, 3),
        choices=choose.randrange(2, 5),
        time_ticks=choose.randrange(1, 4),
    )


def _varint(number: int) -> bytes:
    """A positive long as Avro writes it."""
    left, written = number << 1, bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    written.append(left)
    return bytes(written)


async def load(kafka: KafkaSettings, topic: str, pool: Pool, events: int) -> None:
    """In full batches as the emitter packs them, each partition in order."""
    producer = cast(AIOKafkaProducer, open_producer(kafka, EmitterSettings()))
    await producer.start()
    try:
        batches: list[Batch | None] = [None] * PARTITIONS
        waiting: list[list[asyncio.Future[Any]]] = [[] for _ in range(PARTITIONS)]
        now_ms = pool.minute_ms + 2 * MINUTE_MS

        async def send(partition: int) -> None:
            batch, batches[partition] = batches[partition], None
            if batch is not None:
                waiting[partition].append(
                    await producer.send_batch(batch, topic, partition=partition)
                )

        for partition, key, value in pool.records(events):
            batch = batches[partition]
            if batch is None or batch.append(timestamp=now_ms, key=key, value=value) is None:
                await send(partition)
                fresh = batches[partition] = producer.create_batch()
                assert fresh.append(timestamp=now_ms, key=key, value=value) is not None
        for partition in range(PARTITIONS):
            await send(partition)
        for futures in waiting:
            await asyncio.gather(*futures)
    finally:
        await producer.stop()
