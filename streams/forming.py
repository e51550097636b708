"""From the record batches of a range to the inserts that apply it: decoded, checked, aggregated.

Takes no clock that decides: the same bytes give the same rows, whoever forms them and when. What
names the time and the worker is told, and only says who applied what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from anabranch.fields import Event
from analysis import windows
from schemas.topics import AUDIT, EXPOSURES, INVITES, OUTCOMES, TURN_METRICS, TopicSpec
from sinks.writer import Insert
from streams.arrow_inserts import arrow_insert
from streams.columns import Columns
from streams.dead_letters import dead_letter_rows
from streams.decoded import DeadRecord, Decoded
from streams.kafka_log import TopicPartition
from streams.ledger import Range
from streams.record_batches import RecordBatch
from streams.replays import Letter, applied_marks
from streams.validation import validate

BATCHES, RESTATEMENTS = "batches", "restatements"
DEAD_LETTERS, DEAD_LETTER_MARKS = "dead_letters", "dead_letter_marks"

Aggregate = Callable[[pl.DataFrame], pa.Table]


class Plan(NamedTuple):
    """What becomes of a topic's events, in the order in which it is inserted."""

    spec: TopicSpec
    table: str
    aggregates: tuple[tuple[str, Aggregate], ...]

    def with_unit_sums(self, wanted: bool) -> Plan:
        kept = tuple(pair for pair in self.aggregates if wanted or not pair[0].startswith("unit_"))
        return self._replace(aggregates=kept)


PLANS = (
    Plan(
        EXPOSURES,
        "exposures",
        (
            ("metric_windows", windows.windows_of_exposures),
            ("unit_exposures", windows.unit_exposures),
        ),
    ),
    Plan(
        TURN_METRICS,
        "turn_metrics",
        (
            ("metric_windows", windows.windows_of_turns),
            ("unit_metrics", windows.unit_metrics),
        ),
    ),
    Plan(
        INVITES,
        "invites",
        (
            ("metric_windows", windows.windows_of_invites),
            ("invite_units", windows.invite_units),
        ),
    ),
    Plan(OUTCOMES, "outcomes", (("metric_windows", windows.windows_of_outcomes),)),
    Plan(AUDIT, "audit_log", ()),
)


class Context(NamedTuple):
    """What a batch is told, and its rows tell."""

    partition: int
    applied_at: datetime
    worker: str
    highest_before_ms: int | None
    """The highest event time of the partition before this batch; None before its first."""
    grace_ms: int
    lost: int = 0
    replays: Mapping[int, Letter] = MappingProxyType({})
    """Dead letters that come back with records of the frame, by the records' offsets."""
    skipped: int = 0
    """Replays of the range that the frame is without."""


class Formed(NamedTuple):
    inserts: tuple[Insert, ...]
    """The row in `batches` last: when it is there, all the others are."""
    dead: tuple[DeadRecord, ...]
    rows: int
    skipped: int
    late: int
    highest_ms: int | None
    """Event time."""
    oldest_append_ms: int | None
    newest_append_ms: int | None


class Former:
    """One topic's."""

    def __init__(self, plan: Plan, kind: type[Event], columns: Columns) -> None:
        self.plan = plan
        self._kind = kind
        self._columns = columns

    def decode(self, batches: Sequence[RecordBatch], range_: Range, readable_to: int) -> Decoded:
        """Raises RegistryUnavailableError: then nothing is decided about the range yet."""
        decoded = self._columns.decode(batches, range_.first, readable_to)
        return validate(self._kind, decoded)

    def form(self, decoded: Decoded, range_: Range, context: Context) -> Formed:
        frame, dead = decoded.frame, tuple(decoded.dead)
        topic = self.plan.spec.name
        inserts = []
        if dead:
            inserts.append(self.dead_letters(dead, range_, context))
        late = 0
        if len(frame):
            inserts.append(arrow_insert(self.plan.table, raw_rows(frame, topic, context.partition)))
            for table, aggregate in self.plan.aggregates:
                rows = aggregate(frame)
                if len(rows):
                    inserts.append(arrow_insert(table, rows))
            restated = windows.restatements(frame, context.highest_before_ms, context.grace_ms)
            if len(restated):
                late = int(pa.compute.sum(restated["events"]).as_py())
                inserts.append(arrow_insert(RESTATEMENTS, placed(restated, topic, range_, context)))
        if applied := _still_good(context.replays, dead):
            place = TopicPartition(topic, context.partition)
            marks = applied_marks(place, applied, range_.epoch, context.applied_at, context.worker)
            inserts.append(arrow_insert(DEAD_LETTER_MARKS, marks))
        inserts.append(arrow_insert(BATCHES, self.batch_row(frame, dead, range_, context)))
        appended = _appended(frame, dead)
        return Formed(
            inserts=tuple(inserts),
            dead=dead,
            rows=len(frame),
            skipped=context.skipped,
            late=late,
            highest_ms=_number(frame["ts"].max()),
            oldest_append_ms=min(appended, default=None),
            newest_append_ms=max(appended, default=None),
        )

    def dead_letters(self, dead: Sequence[DeadRecord], range_: Range, context: Context) -> Insert:
        place = TopicPartition(self.plan.spec.name, context.partition)
        rows = dead_letter_rows(place, range_.epoch, dead, context.applied_at, context.worker)
        return arrow_insert(DEAD_LETTERS, rows)

    def batch_row(
        self, frame: pl.DataFrame, dead: Sequence[DeadRecord], range_: Range, context: Context
    ) -> pa.Table:
        appended = _appended(frame, dead)
        row = {
            "topic": self.plan.spec.name,
            "partition": context.partition,
            "epoch": range_.epoch,
            "first": range_.first,
            "last": range_.last,
            "rows": len(frame),
            "dead": len(dead),
            "skipped": context.skipped,
            "lost": context.lost,
            "min_ts": _moment(_number(frame["ts"].min())),
            "max_ts": _moment(_number(frame["ts"].max())),
            "min_append": _moment(min(appended, default=None)),
            "max_append": _moment(max(appended, default=None)),
            "applied_at": context.applied_at,
            "worker": context.worker,
        }
        return table_of([row], _BATCHES)


_UTC_MS = pl.Datetime("ms", "UTC")
_BATCHES = {
    "topic": pl.String,
    "partition": pl.Int32,
    "epoch": pl.String,
    "first": pl.Int64,
    "last": pl.Int64,
    "rows": pl.UInt64,
    "dead": pl.UInt64,
    "skipped": pl.UInt64,
    "lost": pl.UInt64,
    "min_ts": _UTC_MS,
    "max_ts": _UTC_MS,
    "min_append": _UTC_MS,
    "max_append": _UTC_MS,
    "applied_at": _UTC_MS,
    "worker": pl.String,
}


def table_of(rows: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> pa.Table:
    """By polars: pyarrow would look for pandas first, and load it where there is one."""
    return pl.DataFrame(rows, schema).to_arrow(compat_level=pl.CompatLevel.oldest())


def raw_rows(frame: pl.DataFrame, topic: str, partition: int) -> pa.Table:
    """The event's fields and its coordinates."""
    rows = frame.drop("_timestamp").with_columns(
        pl.col("ts").cast(pl.Datetime("ms", "UTC")),
        pl.lit(topic).alias("_topic"),
        pl.lit(partition, pl.Int32).alias("_partition"),
    )
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def _still_good(replays: Mapping[int, Letter], dead: Sequence[DeadRecord]) -> dict[int, Letter]:
    """ClickHouse may have refused some of them since."""
    died = {record.offset for record in dead}
    return {offset: letter for offset, letter in replays.items() if offset not in died}


def placed(rows: pa.Table, topic: str, range_: Range, context: Context) -> pa.Table:
    """With the columns that say which batch it was."""
    return (
        pl.DataFrame(rows)
        .with_columns(
            pl.lit(topic).alias("topic"),
            pl.lit(context.partition, pl.Int32).alias("partition"),
            pl.lit(range_.first, pl.Int64).alias("first"),
            pl.lit(range_.last, pl.Int64).alias("last"),
            pl.lit(context.applied_at).cast(_UTC_MS).alias("applied_at"),
            pl.lit(context.worker).alias("worker"),
        )
        .to_arrow(compat_level=pl.CompatLevel.oldest())
    )


def _appended(frame: pl.DataFrame, dead: Sequence[DeadRecord]) -> list[int]:
    times = [record.timestamp_ms for record in dead]
    if len(frame):
        times += [int(frame["_timestamp"].min()), int(frame["_timestamp"].max())]  # type: ignore[arg-type]
    return times


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
