"""Batches put into a real ClickHouse as a worker puts them there, without a Kafka."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest_asyncio

from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from sinks.migrate import migrate
from sinks.settings import ClickHouseSettings
from sinks.writer import Writer
from streams.columns import Columns
from streams.decoded import DeadRecord, Decoded
from streams.forming import PLANS, Context, Former
from streams.ledger import Range
from streams.metrics import WorkerMetrics
from streams.reasons import BadEventReason
from streams.worker import kind_of
from tests.live.clickhouse_fixture import ClickHouse

TOPICS = (EXPOSURES.name, TURN_METRICS.name, INVITES.name, OUTCOMES.name)
_REFERENCE = pl.Struct(
    {"experiment": pl.String, "version": pl.Int32, "variation": pl.String, "unit": pl.String}
)
_PAIRS = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
_COUNTS = (
    *("turn_ms", "model_ms", "bundle_tokens", "output_tokens", "retries", "fallbacks"),
    *("tool_calls", "acts", "choices", "time_ticks"),
)
_TEXTS = dict.fromkeys(("event_id", "locale"), pl.String)
_SCHEMAS: dict[str, dict[str, Any]] = {
    TURN_METRICS.name: {
        "session": pl.String,
        "player": pl.String,
        "exposures": pl.List(_REFERENCE),
        **dict.fromkeys(_COUNTS, pl.Int32),
    },
    EXPOSURES.name: {
        "exposure_id": pl.String,
        "experiment": pl.String,
        "version": pl.Int32,
        "variation": pl.String,
        "unit": pl.String,
        "attributes": _PAIRS,
        "source": pl.String,
    },
    INVITES.name: {
        "kind": pl.String,
        "invite_id": pl.String,
        "loop": pl.String,
        "inviter": pl.String,
        "invitee": pl.String,
        "smart_link_code": pl.String,
        "exposures": pl.List(_REFERENCE),
    },
    OUTCOMES.name: {
        "unit": pl.String,
        "values": pl.List(pl.Struct({"name": pl.String, "value": pl.Float64})),
        "dimensions": _PAIRS,
    },
}


class Applier:
    """Applies ranges of made-up events, one after the other, from offset 0 of each partition."""

    def __init__(self, settings: ClickHouseSettings, seed: int = 1, epoch: str = "life") -> None:
        self.settings = settings
        self.writer = Writer(settings, WorkerMetrics())
        self.epoch = epoch
        self.next: dict[tuple[str, int], int] = {}
        self._random = random.Random(seed)
        self._formers = {
            plan.spec.name: Former(plan, kind_of(plan.spec.name), Columns(plan.spec, _no_schema))
            for plan in PLANS
        }

    async def apply(
        self,
        topic: str,
        partition: int,
        rows: int,
        *,
        ts: int | None = None,
        dead: int = 0,
        inserts: int | None = None,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> Range:
        """A range of so many rows and, after them, dead letters.

        With `inserts`, as by a worker that is killed after so many of them.
        """
        first = self.next.get((topic, partition), 0)
        range_ = Range(self.epoch, first, first + rows + dead - 1)
        frame = self._frame(topic, rows, first, int(time.time() * 1000) if ts is None else ts)
        letters = tuple(_dead_record(first + rows + number) for number in range(dead))
        context = Context(partition, datetime.now(UTC), "test", None, 60_000)
        formed = self._formers[topic].form(Decoded(frame, letters), range_, context)
        for insert in formed.inserts[:inserts]:
            await self.writer.insert(insert, range_.token(topic, partition), _always)
            if between is not None:
                await between()
        if inserts is None:
            self.next[topic, partition] = range_.last + 1
        return range_

    async def apply_some(self, topics: Sequence[str], partitions: int, ranges: int) -> None:
        for number in range(ranges):
            for topic in topics:
                for partition in range(partitions):
                    rows = self._random.randint(1, 60)
                    await self.apply(topic, partition, rows, dead=number % 2)

    async def delete(self, table: str, condition: str) -> None:
        """Rows, at once, as nobody should."""
        await self.writer.command(
            f"ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 2"
        )

    def _frame(self, topic: str, rows: int, first: int, ts: int) -> pl.DataFrame:
        schema = {**_TEXTS, "ts": pl.Int64, **_SCHEMAS[topic]}
        schema |= {"_offset": pl.Int64, "_timestamp": pl.Int64}
        return pl.DataFrame([self._event(topic, first + n, ts) for n in range(rows)], schema=schema)

    def _event(self, topic: str, offset: int, ts: int) -> dict[str, Any]:
        choose, number = self._random.choice, self._random.randint
        at = ts - number(0, 200_000)
        unit = f"u{number(0, 40)}"
        references = [
            {"experiment": name, "version": 1, "variation": choose("ab"), "unit": unit}
            for name in ("tone", "it's \\ odd")[: number(0, 2)]
        ]
        event: dict[str, Any] = {"event_id": f"{offset}", "ts": at, "locale": choose(["en", ""])}
        event |= {"_offset": offset, "_timestamp": ts}
        if topic == TURN_METRICS.name:
            counts = {name: number(0, choose([2, 5_000])) for name in _COUNTS}
            return event | {"session": unit, "player": unit, "exposures": references} | counts
        if topic == EXPOSURES.name:
            # Some in the same millisecond, so that the first has to be found by all its fields.
            event |= {"ts": at // 50_000 * 50_000, "exposure_id": "x", "experiment": "tone"}
            event |= {"version": number(1, 2), "variation": choose("ab"), "unit": unit}
            pairs = [{"name": "plan", "value": choose(["free", "paid", "zoë"])}] * number(0, 2)
            return event | {"attributes": pairs, "source": "test"}
        if topic == INVITES.name:
            event |= {"kind": choose(["sent", "joined", "fvm", "of_later"]), "invite_id": "i"}
            event |= {"loop": "share", "inviter": unit, "invitee": None, "smart_link_code": ""}
            return event | {"exposures": references}
        names = ["turn_ms", "net"][: number(0, 2)]  # a metric of turns, too
        values = [{"name": name, "value": self._random.gauss(0, 1e6)} for name in names]
        return event | {"unit": unit, "values": values, "dimensions": []}


async def _always() -> bool:
    return True


def _no_schema(schema_id: int) -> str:
    raise AssertionError("nothing is decoded here")


def _dead_record(offset: int) -> DeadRecord:
    reason = BadEventReason.INVALID
    return DeadRecord(offset, 1_700_000_000_000, b"key", b"bytes", (), reason, "made up", None)


@pytest_asyncio.fixture
async def applier(clickhouse: ClickHouse) -> AsyncIterator[Applier]:
    """Some batches of every topic, in a database of the test's own."""
    settings = clickhouse.settings.model_copy(update={"database": f"v_{uuid.uuid4().hex[:8]}"})
    await migrate(settings)
    made = Applier(settings)
    await made.apply_some(TOPICS, partitions=2, ranges=3)
    yield made
    await made.writer.command(f"DROP DATABASE {settings.database} SYNC")
    await made.writer.close()
