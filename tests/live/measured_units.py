"""Events of made-up units, put into the tables as a worker does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa

from analysis.windows import TURN_METRICS, unit_exposures, unit_metrics
from sinks.clickhouse import connected
from sinks.settings import ClickHouseSettings

EXPERIMENT = "npc_tone"
START = datetime(2026, 5, 4, tzinfo=UTC)

_REFERENCE = pl.Struct(
    {"experiment": pl.String, "version": pl.Int32, "variation": pl.String, "unit": pl.String}
)
_PAIRS = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "exposures": {
        "ts": pl.Int64,
        "experiment": pl.String,
        "version": pl.Int32,
        "variation": pl.String,
        "unit": pl.String,
        "locale": pl.String,
        "attributes": _PAIRS,
    },
    "turn_metrics": {
        "ts": pl.Int64,
        "session": pl.String,
        "exposures": pl.List(_REFERENCE),
        **dict.fromkeys(TURN_METRICS, pl.Int32),
    },
    "invites": {
        "ts": pl.Int64,
        "kind": pl.String,
        "loop": pl.String,
        "inviter": pl.String,
        "exposures": pl.List(_REFERENCE),
    },
    "outcomes": {
        "ts": pl.Int64,
        "unit": pl.String,
        "values": pl.List(pl.Struct({"name": pl.String, "value": pl.Float64})),
    },
}

Event = dict[str, Any]


@dataclass
class Events:
    exposures: list[Event] = field(default_factory=list)
    turn_metrics: list[Event] = field(default_factory=list)
    invites: list[Event] = field(default_factory=list)
    outcomes: list[Event] = field(default_factory=list)


def made_up(units: int, seed: int = 1) -> Events:
    """Some units see two variations, some one that is not defined any more, some do nothing."""
    chance, events = random.Random(seed), Events()
    for number in range(units):
        unit = f"unit-{number:05d}-Ω'\"\\"
        seen = [chance.choice(("control", "warm"))]
        if chance.random() < 0.05:
            seen.append("cold" if chance.random() < 0.3 else chance.choice(("control", "warm")))
        if chance.random() < 0.03:
            seen = ["lukewarm"]
        since = START + timedelta(seconds=chance.randrange(10 * 86_400), milliseconds=number % 7)
        for step in range(chance.randint(1, 4)):
            events.exposures.append(_exposure(unit, seen[step % len(seen)], since, step, chance))
        if chance.random() < 0.2:
            continue
        referred = [_reference(unit, chance.choice(seen))]
        for _ in range(chance.randrange(6)):
            at = milliseconds(since + timedelta(hours=chance.random() * 72))
            values = {name: chance.randrange(2_000) for name in TURN_METRICS}
            events.turn_metrics.append({"ts": at, "session": unit, "exposures": referred, **values})
        for kind in ("sent", "joined", "fvm")[: chance.randrange(4)]:
            at = milliseconds(since + timedelta(hours=chance.random() * 72))
            loop = chance.choice(("friends", "guild"))
            events.invites.append(
                {"ts": at, "kind": kind, "loop": loop, "inviter": unit, "exposures": referred}
            )
        for _ in range(chance.randrange(8)):
            at = milliseconds(since + timedelta(hours=chance.uniform(-500, 100)))
            found = [("revenue", chance.expovariate(0.1)), ("revenue", -1.0), ("won", 0.0)]
            values_of = chance.sample(found, chance.randint(1, 3))
            events.outcomes.append(_outcome(unit, at, values_of))
    for one in {one["unit"]: one for one in reversed(events.exposures)}.values():
        level = [("level", 1e9 + chance.gauss(0, 1))]
        events.outcomes.append(_outcome(one["unit"], one["ts"] + 40 * 86_400_000, level))
    return events


def _exposure(
    unit: str, variation: str, since: datetime, step: int, chance: random.Random
) -> Event:
    attributes = [{"name": "tier", "value": chance.choice("abc")}, {"name": "x", "value": "y"}]
    return {
        "ts": milliseconds(since + timedelta(minutes=step * 50)),
        "experiment": EXPERIMENT,
        "version": 1 + step,
        "variation": variation,
        "unit": unit,
        "locale": chance.choice(("de", "en", "")),
        "attributes": attributes[chance.randrange(2) :],
    }


def _reference(unit: str, variation: str) -> Event:
    return {"experiment": EXPERIMENT, "version": 1, "variation": variation, "unit": unit}


def _outcome(unit: str, at: int, values: Iterable[tuple[str, float]]) -> Event:
    return {"ts": at, "unit": unit, "values": [{"name": n, "value": v} for n, v in values]}


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


async def store(settings: ClickHouseSettings, events: Events, batches: int = 3) -> None:
    """In several batches, so that there are parts that nobody has merged."""
    async with connected(settings) as client:
        for table, schema in SCHEMAS.items():
            rows = getattr(events, table)
            for batch in range(batches):
                frame = pl.DataFrame(rows[batch::batches], schema=dict(schema))
                if frame.is_empty():
                    continue
                stored = frame.with_columns(pl.col("ts").cast(pl.Datetime("ms", "UTC")))
                await client.insert_arrow(table, stored.to_arrow())
                sums: dict[str, Callable[[pl.DataFrame], pa.Table]] = {
                    "exposures": unit_exposures,
                    "turn_metrics": unit_metrics,
                }
                if table in sums:
                    await client.insert_arrow(sums[table].__name__, sums[table](frame))
