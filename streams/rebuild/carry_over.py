"""What Kafka does not hold any more, out of the live tables: rows as they are, and their sums anew.

Raw rows and the sums made of them come from one read, so that they agree whatever happens to the
live tables meanwhile.
"""

# ruff: noqa: S608  # names come from settings with a pattern, values are numbers and epochs

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from sinks.clickhouse import AsyncClient, connect, typed_errors
from sinks.writer import Insert, Writer
from streams.arrow_inserts import arrow_insert
from streams.forming import (
    BATCHES,
    DEAD_LETTER_MARKS,
    DEAD_LETTERS,
    RESTATEMENTS,
    Plan,
)
from streams.rebuild.fresh import RebuildError
from streams.rebuild.live_tables import LiveTables, always
from streams.rebuild.spans import RECORDS_AT_ONCE, Span, Stretch
from streams.replays import APPLIED

_READ_SECONDS = 3_600.0
_AS_ARROW = {
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "max_block_size": RECORDS_AT_ONCE,
    # A table of nested texts is large: less waits on its way.
    "preferred_block_size_bytes": 32 << 20,
}


class CarryOver:
    def __init__(self, source: LiveTables, target: Writer, id_: str) -> None:
        self._source = source
        self._settings = source.settings.model_copy(update={"timeout_seconds": _READ_SECONDS})
        self._target = target
        self._id = id_
        self._slices = 0
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def before(
        self, plan: Plan, spans: Sequence[Span], carried: Callable[[int], None]
    ) -> None:
        """All that lies before the spans, of one topic. `carried` is told of raw rows."""
        topic = plan.spec.name
        if not spans:
            return
        months = await self._source.writer.query(
            f"SELECT toYYYYMM(ts) AS month, count() FROM {plan.table} "
            f"WHERE {raw_before(spans)} GROUP BY month ORDER BY month"
        )
        for month, count in months:
            # Month by month: an insert may touch a hundred of a table's partitions at most.
            condition = f"toYYYYMM(ts) = {month} AND ({raw_before(spans)})"
            seen = 0
            async for rows in self._slices_of(plan.table, condition):
                await self._raw(plan, rows)
                seen += len(rows)
                carried(len(rows))
            if seen != count:
                raise RebuildError(
                    f"{count} rows of {plan.table} were to be carried over and {seen} came; the "
                    "live tables are untouched: run it again with --restart"
                )
        for table, condition in (
            (DEAD_LETTERS, letters_before(spans)),
            (DEAD_LETTER_MARKS, marks_before(spans)),
            (RESTATEMENTS, restatements_before(spans)),
            (BATCHES, letters_before(spans, "first")),
        ):
            where = f"topic = '{topic}' AND ({condition})"
            async for rows in self._slices_of(table, where, binary=table == DEAD_LETTERS):
                await self._target.insert(arrow_insert(table, rows), self._token(table), always)

    async def stretch(
        self, plan: Plan, span: Span, stretch: Stretch, *, marks: bool = True
    ) -> bool:
        """One that Kafka has just deleted, under its own token: each table as one insert. Whether
        there were raw rows."""
        tables = set()
        for insert in await self._inserts_of(plan, span, stretch):
            tables.add(insert.table)
            if marks or insert.table != DEAD_LETTER_MARKS:
                await self._target.insert(insert, stretch.token, always)
        return plan.table in tables

    async def restatements(self, span: Span, stretch: Stretch) -> pa.Table:
        """Those that its ranges made when they were applied."""
        return await self._table(RESTATEMENTS, _restatements_within(span, stretch))

    async def _inserts_of(self, plan: Plan, span: Span, stretch: Stretch) -> list[Insert]:
        _, first, last = stretch.range_
        own = f"epoch = '{span.epoch}'"
        raw = await self._table(plan.table, _raw_within(span, first, last))
        restated = await self.restatements(span, stretch)
        parts: list[tuple[str, pa.Table]] = [
            (
                DEAD_LETTERS,
                await self._table(
                    DEAD_LETTERS, f"{_of(span)} AND {own} AND {_between('offset', first, last)}"
                ),
            ),
            (plan.table, raw),
            *((await _in_thread(sums, plan, raw)) if len(raw) else []),
            (RESTATEMENTS, restated),
            (
                DEAD_LETTER_MARKS,
                await self._table(
                    DEAD_LETTER_MARKS,
                    f"{_of(span)} AND mark = '{APPLIED}' AND at_epoch = '{span.epoch}' "
                    f"AND {_between('at_offset', first, last)}",
                ),
            ),
            (
                BATCHES,
                await self._table(
                    BATCHES, f"{_of(span)} AND {own} AND {_between('first', first, last)}"
                ),
            ),
        ]
        return [arrow_insert(table, rows) for table, rows in parts if len(rows)]

    async def _raw(self, plan: Plan, rows: pa.Table) -> None:
        token = self._token(plan.table)
        for table, some in ((plan.table, rows), *(await _in_thread(sums, plan, rows))):
            if len(some):
                await self._target.insert(arrow_insert(table, some), token, always)

    def _token(self, table: str) -> str:
        self._slices += 1
        return f"rebuild:{self._id}:carried:{table}:{self._slices}"

    async def _table(self, table: str, condition: str) -> pa.Table:
        async with AsyncExitStack() as stack:
            batches = await self._opened(stack, table, condition, binary=table == DEAD_LETTERS)
            found = [batch async for batch in batches]
        return _joined(found)

    async def _slices_of(
        self, table: str, condition: str, *, binary: bool = False
    ) -> AsyncIterator[pa.Table]:
        async with AsyncExitStack() as stack:
            waiting: list[pa.RecordBatch] = []
            rows = 0
            async for batch in await self._opened(stack, table, condition, binary=binary):
                if waiting and rows + len(batch) > RECORDS_AT_ONCE:
                    yield _joined(waiting)
                    waiting, rows = [], 0
                waiting.append(batch)
                rows += len(batch)
            if rows:
                yield _joined(waiting)

    async def _opened(
        self, stack: AsyncExitStack, table: str, condition: str, *, binary: bool
    ) -> AsyncIterator[pa.RecordBatch]:
        stack.enter_context(typed_errors(self._settings))
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self._settings)
        stream: Any = await self._client.query_arrow_stream(
            f"SELECT * FROM {table} WHERE {condition}", settings=_AS_ARROW, use_strings=not binary
        )
        found: AsyncIterator[pa.RecordBatch] = await stack.enter_async_context(stream)
        return found


def sums(plan: Plan, rows: pa.Table) -> list[tuple[str, pa.Table]]:
    """The aggregates of raw rows as the tables hold them."""
    frame = pl.DataFrame(rows).with_columns(pl.col("ts").dt.timestamp("ms"))
    return [(table, aggregate(frame)) for table, aggregate in plan.aggregates]


def raw_before(spans: Iterable[Span]) -> str:
    """Raw rows have no epoch. A row of a partition that has no batch yet is before nothing."""
    spans = list(spans)
    numbers = ", ".join(str(span.place.partition) for span in spans)
    starts = ", ".join(str(span.start) for span in spans)
    before = f"_offset < transform(_partition, [{numbers}], [{starts}], 0)"
    old = [
        f"(_partition = {span.place.partition} AND inserted_at < {_time(span.born)})"
        for span in spans
        if span.born is not None
    ]
    return " OR ".join((before, *old))


def letters_before(spans: Iterable[Span], offset: str = "offset") -> str:
    return " OR ".join(
        f"(partition = {span.place.partition} "
        f"AND (epoch != '{span.epoch}' OR {offset} < {span.start}))"
        for span in spans
    )


def marks_before(spans: Iterable[Span]) -> str:
    """What people marked, too; what they mark from now on is added at the swap."""
    applied = " OR ".join(
        f"(partition = {span.place.partition} "
        f"AND (at_epoch != '{span.epoch}' OR at_offset < {span.start}))"
        for span in spans
    )
    return f"mark != '{APPLIED}' OR {applied}"


def restatements_before(spans: Iterable[Span]) -> str:
    return " OR ".join(
        f"(partition = {span.place.partition} AND (first < {span.start}"
        + (f" OR applied_at < {_time(span.born)}))" if span.born is not None else "))")
        for span in spans
    )


def _raw_within(span: Span, first: int, last: int) -> str:
    condition = f"_partition = {span.place.partition} AND {_between('_offset', first, last)}"
    return condition if span.born is None else f"{condition} AND inserted_at >= {_time(span.born)}"


def _restatements_within(span: Span, stretch: Stretch) -> str:
    _, first, last = stretch.range_
    condition = f"{_of(span)} AND first >= {first} AND last <= {last}"
    return condition if span.born is None else f"{condition} AND applied_at >= {_time(span.born)}"


def _of(span: Span) -> str:
    return f"topic = '{span.place.topic}' AND partition = {span.place.partition}"


def _between(column: str, first: int, last: int) -> str:
    return f"{column} BETWEEN {first} AND {last}"


def _time(moment: datetime | None) -> str:
    assert moment is not None
    return f"fromUnixTimestamp64Milli({int(moment.astimezone(UTC).timestamp() * 1000)})"


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    if not batches:
        return pa.table({})
    return pa.Table.from_batches(batches).combine_chunks()


async def _in_thread(function: Callable[..., Any], *arguments: object) -> Any:
    return await asyncio.to_thread(function, *arguments)
