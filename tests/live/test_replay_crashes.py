"""A batch with replays in it, cut off after each of its inserts, and then formed again."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest_asyncio

from anabranch import TurnMetric
from anabranch.encoding import Encoder
from schemas.topics import TURN_METRICS
from sinks.clickhouse import connected
from sinks.migrate import migrate
from sinks.writer import Writer
from streams.columns import Columns
from streams.forming import PLANS, Context, Formed, Former
from streams.kafka_log import TopicPartition
from streams.ledger import Range
from streams.metrics import WorkerMetrics
from streams.record_batches import Headers, RecordBatch, split
from streams.replay_headers import Origin, replay_headers
from streams.replays import Replays
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.poison import turn
from tests.unit.record_batch_making import NOON, Made, batch, registry, schema_id

PLACE = TopicPartition(TURN_METRICS.name, 0)
EPOCH = "0a1b2c3d"
LETTERS = {number: Origin(*PLACE, EPOCH, number) for number in range(5)}

STORED = "SELECT turn_ms, count() FROM turn_metrics GROUP BY turn_ms ORDER BY turn_ms"
WINDOWS = "SELECT toUInt64(sum(n)), toUInt64(sum(sum)) FROM metric_windows WHERE metric = 'turn_ms'"
MARKS = "SELECT offset, at_offset FROM dead_letter_marks WHERE mark = 'applied' ORDER BY offset"
BATCHES = "SELECT first, last, rows, dead, skipped FROM batches ORDER BY first"


class Bench:
    """What a worker does with a range, without the Kafka around it."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._replays = Replays(writer)
        (plan,) = (plan for plan in PLANS if plan.spec is TURN_METRICS)
        self._former = Former(plan, TurnMetric, Columns(plan.spec, registry()))

    async def formed(self, batches: list[RecordBatch]) -> tuple[str, Formed]:
        range_ = Range(EPOCH, batches[0].first, batches[-1].last)
        decoded = self._former.decode(batches, range_, range_.last)
        settled = await self._replays.settle(decoded, PLACE, range_, allowed)
        context = Context(
            partition=PLACE.partition,
            applied_at=datetime.now(UTC),
            worker="bench",
            highest_before_ms=None,
            grace_ms=0,
            replays=settled.replays,
            skipped=settled.skipped,
        )
        return range_.token(*PLACE), self._former.form(settled.decoded, range_, context)

    async def apply(self, batches: list[RecordBatch], inserts: int | None = None) -> int:
        """So many of its inserts, then a crash. Returns how many there are."""
        token, formed = await self.formed(batches)
        for insert in formed.inserts[:inserts]:
            await self.writer.insert(insert, token, allowed)
        return len(formed.inserts)

    async def asked(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.writer.query(statement)]


async def allowed() -> bool:
    return True


@pytest_asyncio.fixture
async def bench(clickhouse: ClickHouse) -> AsyncIterator[Bench]:
    settings = clickhouse.settings.model_copy(update={"database": f"r_{uuid.uuid4().hex[:8]}"})
    await migrate(settings)
    writer = Writer(settings, WorkerMetrics())
    yield Bench(writer)
    await writer.close()
    async with connected(settings, database="") as client:
        await client.command(f"DROP DATABASE {settings.database} SYNC")


def records(first: int, *of: int | None) -> list[RecordBatch]:
    """A record each: a replay of that letter, or one that never died."""
    encoder = Encoder(TurnMetric, schema_id(TURN_METRICS))
    made = []
    for at, letter in enumerate(of, first):
        headers: Headers = () if letter is None else replay_headers((), LETTERS[letter])
        number = 1_000 + at if letter is None else letter
        key, value = encoder.encode(turn("s", number, ts=NOON))
        made.append(Made(key, value, NOON, headers))
    return list(split(batch(made, first), first))


FIRST = (1, None, 2, 1, None)
SECOND = (2, 3, None, 1, 3)


async def test_replays_are_stored_once_when_their_batch_is_cut_off_after_any_insert(
    bench: Bench,
) -> None:
    first, second = records(100, *FIRST), records(105, *SECOND)
    assert await bench.apply(first, 0) == 5  # rows, windows, units, marks, batch
    for inserts in range(6):
        await bench.apply(first, inserts)
    for inserts in range(6):
        await bench.apply(second, inserts)
    await bench.apply(second)  # by a zombie, late

    numbers = [1, 2, 3, 1_101, 1_104, 1_107]
    assert await bench.asked(STORED) == [(number, 1) for number in numbers]
    assert await bench.asked(WINDOWS) == [(len(numbers), sum(numbers))]
    assert await bench.asked(MARKS) == [(1, 100), (2, 102), (3, 106)]
    assert await bench.asked(BATCHES) == [(100, 104, 4, 0, 1), (105, 109, 2, 0, 3)]


async def test_replays_form_the_same_rows_when_their_own_marks_are_there_already(
    bench: Bench,
) -> None:
    batches = records(100, *FIRST)
    _, before = await bench.formed(batches)
    await bench.apply(batches)
    _, after = await bench.formed(batches)

    assert [insert.rows for insert in after.inserts] == [insert.rows for insert in before.inserts]
    assert after.inserts[0].data == before.inserts[0].data
    assert (after.rows, after.skipped) == (before.rows, before.skipped) == (4, 1)


async def test_many_replays_in_one_batch_are_all_looked_up(bench: Bench) -> None:
    encoder = Encoder(TurnMetric, schema_id(TURN_METRICS))

    def replays(first: int, count: int) -> list[RecordBatch]:
        made = []
        for number in range(count):
            headers = replay_headers((), Origin(*PLACE, EPOCH, number))
            key, value = encoder.encode(turn("s", number, ts=NOON))
            made.append(Made(key, value, NOON, headers))
        return list(split(batch(made, first), first))

    await bench.apply(replays(50_000, 12_000))
    await bench.apply(replays(70_000, 12_001))

    assert await bench.asked("SELECT count(), uniqExact(turn_ms) FROM turn_metrics") == [
        (12_001, 12_001)
    ]
    assert (await bench.asked(BATCHES))[-1] == (70_000, 82_000, 1, 0, 12_000)
