from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from aiokafka.partitioner import DefaultPartitioner

from anabranch import (
    Emitter,
    EmitterSettings,
    KafkaSettings,
    RegistrySettings,
    SyncEmitter,
    TurnMetric,
)
from tests.live.kafka_fixture import Broker
from tests.live.record_log import batches, make_topic, numbers, turn, turn_type

SCHEMA_ID = 7


def sync_emitter(broker: Broker, topic: str, **settings: object) -> SyncEmitter:
    return SyncEmitter(broker.settings, settings=emitter_settings(topic, **settings))


def emitter_settings(topic: str, **settings: object) -> EmitterSettings:
    return EmitterSettings.model_validate({"schema_ids": {topic: SCHEMA_ID}, **settings})


async def test_emitter_stores_every_event_once_and_in_order_of_its_key(kafka: Broker) -> None:
    kind = await make_topic(kafka, "emitter-order")

    def emit_all(emitter: SyncEmitter, thread: int) -> None:
        for number in range(4000):
            assert emitter.emit(turn(kind, f"s{thread}-{number % 10}", number))

    with sync_emitter(kafka, kind.TOPIC) as emitter:
        threads = [threading.Thread(target=emit_all, args=(emitter, n)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert emitter.flush(30) == 0
        counters = emitter.counters
        assert (counters.emitted, counters.delivered) == (12_000, 12_000)
    stored = numbers(kafka, kind.TOPIC)
    assert stored == {f"s{n}-{i}": [*range(i, 4000, 10)] for n in range(3) for i in range(10)}


async def test_emitter_packs_whole_batches_that_the_engine_can_decode(kafka: Broker) -> None:
    kind = await make_topic(kafka, "emitter-batches")
    async with Emitter(kafka.settings, settings=emitter_settings(kind.TOPIC)) as emitter:
        for number in range(5000):
            assert emitter.emit(turn(kind, f"s{number % 50}", number))
        assert await emitter.flush(30) == 0
        assert "anabranch" in {thread.name for thread in threading.enumerate()}
    assert "anabranch" not in {thread.name for thread in threading.enumerate()}
    found = batches(kafka, kind.TOPIC)
    assert len(found) == emitter.counters.flushes <= 5000 / 50
    choose = DefaultPartitioner()
    for record in (record for batch in found for record in batch):
        assert record.headers == 0
        assert record.value[:5] == b"\0" + SCHEMA_ID.to_bytes(4, "big")
        assert record.partition == choose(record.key, [0, 1, 2, 3], [])


async def test_emitter_loses_nothing_when_kafka_goes_and_comes_under_load(
    own_kafka: Broker,
) -> None:
    kind = await make_topic(own_kafka, "emitter-outage")
    emitter = sync_emitter(own_kafka, kind.TOPIC)
    enough = threading.Event()

    def emit_all() -> None:
        number = 0
        while not enough.is_set():
            assert emitter.emit(turn(kind, f"s{number % 20}", number // 20))
            number += 1
            time.sleep(0.0005)

    load = threading.Thread(target=emit_all)
    load.start()
    for end in (own_kafka.stop, own_kafka.kill):
        await asyncio.sleep(0.5)
        await asyncio.to_thread(end)
        await asyncio.sleep(1)
        await asyncio.to_thread(own_kafka.start)
    await asyncio.sleep(0.5)
    enough.set()
    load.join()
    assert emitter.close(60) == 0
    assert emitter.counters.delivered == emitter.counters.emitted > 1000
    stored = numbers(own_kafka, kind.TOPIC)
    first_seen = [list(dict.fromkeys(found)) for found in stored.values()]
    assert sum(map(len, first_seen)) == emitter.counters.emitted
    assert all(found == [*range(len(found))] for found in first_seen)
    # A batch is stored twice only where its acknowledgement was lost together with a producer.
    again = sum(map(len, stored.values())) - emitter.counters.emitted
    assert again == 0 or emitter.counters.flush_failures > 0


async def test_emitter_counts_what_its_queue_cannot_hold_while_kafka_is_away(
    own_kafka: Broker,
) -> None:
    kind = await make_topic(own_kafka, "emitter-full")
    own_kafka.stop()
    with sync_emitter(own_kafka, kind.TOPIC, capacity=100) as emitter:
        taken = [emitter.emit(turn(kind, "s", number)) for number in range(300)]
        assert taken == [True] * 100 + [False] * 200
        assert emitter.flush(0.5) == emitter.queued == 100
        assert emitter.counters.dropped["queue_full"] == 200
        own_kafka.start()
        assert emitter.flush(30) == 0
        assert emitter.emit(turn(kind, "s", 300))
    assert numbers(own_kafka, kind.TOPIC) == {"s": [*range(100), 300]}


def test_emitter_drops_what_kafka_cannot_take_within_the_time() -> None:
    nobody = KafkaSettings(bootstrap="127.0.0.1:1")
    settings = emitter_settings("away", delivery_timeout_seconds=0.3)
    with SyncEmitter(nobody, settings=settings) as emitter:
        assert emitter.emit(turn(turn_type("away"), "s", 1))
        assert emitter.flush(20) == 0
        assert emitter.counters.dropped["delivery_timeout"] == 1
        assert emitter.counters.flush_failures > 0
        assert emitter.emit(turn(turn_type("away"), "s", 2))
        assert emitter.close(0) == 1
    assert emitter.counters.dropped["left_at_close"] == 1
    assert not emitter.emit(turn(turn_type("away"), "s", 3))
    assert emitter.counters.dropped["closed"] == 1


async def test_emitter_waits_for_a_topic_and_does_not_hold_up_the_others(kafka: Broker) -> None:
    late, known = turn_type("emitter-late"), await make_topic(kafka, "emitter-known")
    settings = EmitterSettings(
        schema_ids={"emitter-late": 1, "emitter-known": 1}, request_timeout_seconds=1
    )
    with SyncEmitter(kafka.settings, settings=settings) as emitter:
        emitter.emit(turn(late, "s", 1))
        emitter.emit(turn(known, "s", 1))
        assert emitter.flush(1.5) == 1
        assert numbers(kafka, "emitter-known") == {"s": [1]}
        await make_topic(kafka, "emitter-late")
        assert emitter.flush(20) == 0
    assert numbers(kafka, "emitter-late") == {"s": [1]}
    assert emitter.counters.flush_failures > 0


async def test_emitter_splits_batches_that_kafka_finds_too_large(kafka: Broker) -> None:
    kind = await make_topic(kafka, "emitter-large", **{"max.message.bytes": "2000"})
    with sync_emitter(kafka, kind.TOPIC, compression="none") as emitter:
        for number in range(100):
            emitter.emit(turn(kind, "s", number))
        assert emitter.flush(30) == 0
    # It learns the size: only the first batches were refused, not every one.
    assert 0 < emitter.counters.flush_failures < 6 < emitter.counters.flushes
    assert numbers(kafka, kind.TOPIC) == {"s": [*range(100)]}


async def test_emitter_drops_one_event_that_alone_is_too_large(kafka: Broker) -> None:
    kind = await make_topic(kafka, "emitter-huge", **{"max.message.bytes": "600"})
    with sync_emitter(kafka, kind.TOPIC, compression="none") as emitter:
        emitter.emit(turn(kind, "s" * 250, 1))
        emitter.emit(turn(kind, "s", 2))
        assert emitter.flush(30) == 0
    assert emitter.counters.dropped["too_large"] == 1
    assert numbers(kafka, kind.TOPIC) == {"s": [2]}


async def test_emitter_counts_an_event_that_was_changed_until_it_fits_no_schema(
    kafka: Broker,
) -> None:
    kind = await make_topic(kafka, "emitter-changed")
    with sync_emitter(kafka, kind.TOPIC) as emitter:
        changed = turn(kind, "s", 1)
        emitter.emit(changed)
        object.__setattr__(changed, "turn_ms", "many")
        emitter.emit(turn(kind, "s", 2))
        assert emitter.flush(30) == 0
    assert emitter.counters.dropped["unencodable"] == 1
    assert numbers(kafka, kind.TOPIC) == {"s": [2]}


async def test_emitters_of_one_process_do_not_disturb_each_other(kafka: Broker) -> None:
    kind = await make_topic(kafka, "emitter-two")
    settings = emitter_settings(kind.TOPIC, compression="lz4")
    async with Emitter(kafka.settings, settings=settings) as one:
        with sync_emitter(kafka, kind.TOPIC) as other:
            for number in range(500):
                one.emit(turn(kind, "one", number))
                other.emit(turn(kind, "other", number))
            other.close()
        one.emit(turn(kind, "one", 500))
        assert await one.flush(30) == 0
    assert numbers(kafka, kind.TOPIC) == {"one": [*range(501)], "other": [*range(500)]}


async def test_emitter_delivers_while_a_signal_interrupts_an_emit_and_flushes(
    kafka: Broker,
) -> None:
    kind = await make_topic(kafka, "emitter-interrupted")
    with sync_emitter(kafka, kind.TOPIC) as emitter:
        for number in range(100):
            emitter.emit(turn(kind, "s", number))
        assert emitter._delivery is not None
        # What the interrupted emit holds for as long as the handler runs.
        with emitter._delivery.intake._lock:
            assert emitter.flush(20) == 0
    assert numbers(kafka, kind.TOPIC) == {"s": [*range(100)]}


async def test_emitter_asks_the_registry_for_ids_until_it_answers(kafka: Broker) -> None:
    kind = await make_topic(kafka, "emitter-registry")
    with registry_that_is_away_at_first() as (url, asked):
        registry = RegistrySettings(url=url)
        with SyncEmitter(kafka.settings, registry) as emitter:
            for number in range(10):
                emitter.emit(turn(kind, "s", number))
            assert emitter.flush(30) == 0
    assert set(asked) == {"/subjects/emitter-registry-value"}
    assert len(asked) > 4, "more than one try of the registry's client"
    (batch,) = batches(kafka, kind.TOPIC)
    assert {record.value[1:5] for record in batch} == {(321).to_bytes(4, "big")}


@contextmanager
def registry_that_is_away_at_first() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert json.loads(body["schema"]) == json.loads(TurnMetric.SCHEMA)
            self.send_response(503 if len(asked) <= 4 else 200)
            self.end_headers()
            self.wfile.write(b'{"id": 321, "message": "not yet"}')

        def log_message(self, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
