"""What does an event cost its caller, and how many a second does a process bring to Kafka?

Our emitters beside aiokafka called directly with the same event, encoded by the same schema, in one
process and one run; both with the same compression, batch size and linger. The broker shares the
machine. The cost to the caller is wall time around the call at 5,000 events a second, as a service
would call it; the throughput is from the first call to the last acknowledgement (acks=all) of
events that were made before.

    python -m bench.emitter [--runs 5] [--events 200000] [--seconds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import mean, quantiles
from typing import Any

from aiokafka import AIOKafkaProducer

from anabranch import (
    Emitter,
    EmitterSettings,
    ExposureRef,
    KafkaSettings,
    Pseudonyms,
    SyncEmitter,
    TurnMetric,
)
from anabranch.encoding import Encoder
from bench.broker import own_kafka
from bench.machine import facts, keep

SETTINGS = EmitterSettings(schema_ids={TurnMetric.TOPIC: 3}, capacity=1_000_000)
_EVERY_SECONDS = 0.01  # a burst of 50 events
_BURST = 50

Emit = Callable[[TurnMetric], bool]
Figures = dict[str, list[float]]


def turns(count: int) -> list[TurnMetric]:
    pseudonyms = Pseudonyms(os.urandom(32))
    sessions = [pseudonyms.session(str(number)) for number in range(5_000)]
    players = [pseudonyms.player(str(number)) for number in range(2_000)]
    return [turn(sessions[n % 5_000], players[n % 2_000], n) for n in range(count)]


def turn(session: str, player: str, number: int) -> TurnMetric:
    return TurnMetric(
        session=session,
        player=player,
        locale=("en", "de", "pt-BR")[number % 3],
        exposures=(ExposureRef(experiment="npc_tone", version=3, variation="warm", unit=session),),
        turn_ms=500 + number % 700,
        model_ms=300 + number % 400,
        bundle_tokens=900 + number % 90,
        output_tokens=100 + number % 60,
        retries=0,
        fallbacks=0,
        tool_calls=number % 3,
        acts=1,
        choices=3,
        time_ticks=1,
    )


def direct(kafka: KafkaSettings) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap,
        acks="all",
        enable_idempotence=True,
        compression_type=SETTINGS.compression,
        max_batch_size=SETTINGS.batch_bytes,
        linger_ms=SETTINGS.linger_ms,
    )


def costs(figures: Figures, name: str, nanoseconds: list[int]) -> None:
    cuts = quantiles(nanoseconds, n=100)
    figures[f"{name}: cost to the caller, mean (us)"].append(mean(nanoseconds) / 1000)
    figures[f"{name}: cost to the caller, p50 (us)"].append(cuts[49] / 1000)
    figures[f"{name}: cost to the caller, p99 (us)"].append(cuts[98] / 1000)


def call_paced(emit: Emit, events: list[TurnMetric]) -> list[int]:
    spent, clock = [], time.perf_counter_ns
    for at in range(0, len(events), _BURST):
        for event in events[at : at + _BURST]:
            started = clock()
            emit(event)
            spent.append(clock() - started)
        time.sleep(_EVERY_SECONDS)
    return spent


async def call_paced_async(
    emit: Callable[[TurnMetric], bool], events: list[TurnMetric]
) -> list[int]:
    spent, clock = [], time.perf_counter_ns
    for at in range(0, len(events), _BURST):
        for event in events[at : at + _BURST]:
            started = clock()
            emit(event)
            spent.append(clock() - started)
        await asyncio.sleep(_EVERY_SECONDS)
    return spent


async def send_paced(producer: Any, events: list[TurnMetric]) -> list[int]:
    spent, clock, encoder = [], time.perf_counter_ns, Encoder(TurnMetric, 3)
    for at in range(0, len(events), _BURST):
        for event in events[at : at + _BURST]:
            started = clock()
            key, value = encoder.encode(event)
            await producer.send(TurnMetric.TOPIC, value, key)
            spent.append(clock() - started)
        await asyncio.sleep(_EVERY_SECONDS)
    return spent


def measure_sync(kafka: KafkaSettings, few: list[TurnMetric], many: list[TurnMetric]) -> Figures:
    figures: Figures = defaultdict(list)
    with SyncEmitter(kafka, settings=SETTINGS) as emitter:
        emitter.emit(few[0])
        emitter.flush(30)
        costs(figures, "SyncEmitter.emit", call_paced(emitter.emit, few))
        emitter.flush(30)
        started, used = time.perf_counter(), time.process_time()
        for event in many:
            emitter.emit(event)
        left = emitter.flush(120)
        used = time.process_time() - used
        figures["SyncEmitter: events/s to the acknowledgement"].append(
            len(many) / (time.perf_counter() - started)
        )
        figures["SyncEmitter: CPU of the process an event (us)"].append(used / len(many) * 1e6)
        check(left == 0 and emitter.counters.delivered == len(few) + len(many) + 1)
    return figures


async def measure_async(
    kafka: KafkaSettings, few: list[TurnMetric], many: list[TurnMetric]
) -> Figures:
    figures: Figures = defaultdict(list)
    async with Emitter(kafka, settings=SETTINGS) as emitter:
        emitter.emit(few[0])
        await emitter.flush(30)
        costs(figures, "Emitter.emit", await call_paced_async(emitter.emit, few))
        await emitter.flush(30)
        started = time.perf_counter()
        for event in many:
            emitter.emit(event)
        left = await emitter.flush(120)
        figures["Emitter: events/s to the acknowledgement"].append(
            len(many) / (time.perf_counter() - started)
        )
        check(left == 0 and emitter.counters.delivered == len(few) + len(many) + 1)
    return figures


async def measure_direct(
    kafka: KafkaSettings, few: list[TurnMetric], many: list[TurnMetric]
) -> Figures:
    figures: Figures = defaultdict(list)
    encoder = Encoder(TurnMetric, 3)
    async with direct(kafka) as producer:
        await producer.send_and_wait(TurnMetric.TOPIC, b"warm", b"warm")
        costs(figures, "aiokafka send", await send_paced(producer, few))
        await producer.flush()
        started, used = time.perf_counter(), time.process_time()
        last = []
        for event in many:
            key, value = encoder.encode(event)
            last.append(await producer.send(TurnMetric.TOPIC, value, key))
        await producer.flush()
        used = time.process_time() - used
        figures["aiokafka: events/s to the acknowledgement"].append(
            len(many) / (time.perf_counter() - started)
        )
        figures["aiokafka: CPU of the process an event (us)"].append(used / len(many) * 1e6)
        check(all(future.done() and not future.exception() for future in last))
    return figures


def check(complete: bool) -> None:
    if not complete:
        raise SystemExit("not every event was acknowledged: the figures would mean nothing")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.emitter")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    machine = facts()
    figures: Figures = defaultdict(list)
    few = turns(int(options.seconds / _EVERY_SECONDS) * _BURST)
    many = turns(options.events)
    with own_kafka() as kafka:
        measure_sync(kafka, few[:500], many[:50_000])  # the broker's JVM gets warm
        for _ in range(options.runs):
            for measured in (
                measure_sync(kafka, few, many),
                asyncio.run(measure_async(kafka, few, many)),
                asyncio.run(measure_direct(kafka, few, many)),
            ):
                for figure, values in measured.items():
                    figures[figure] += values
    notes = [" ".join(paragraph.split()) for paragraph in (__doc__ or "").split("\n\n")[1:2]]
    keep("emitter", "The emitter beside aiokafka called directly", machine, figures, notes)


if __name__ == "__main__":
    main()
