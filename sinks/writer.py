"""Puts rows into ClickHouse, each set under its token, and tries until they are there.

Its errors, and who handles each:

* SinkRejected   the rows, or the statement, can never succeed -> the pipeline looks for the row
* SinkAbandoned  whoever asked for the insert does not want it any more (the partition went away)
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, cast

import structlog

from sinks.clickhouse import (
    AsyncClient,
    ClickHouseRefused,
    ClickHouseUnavailable,
    connect,
    typed_errors,
)
from sinks.retry import RETRIABLE_CODES, backoff_seconds
from sinks.settings import ClickHouseSettings

log = structlog.get_logger("sinks.writer")

Format = Literal["ArrowStream"]

# One insert has to be one block, for the token covers an insert's blocks by their order: read by
# one thread, squashed into one, and no part of it cut off.
ONE_BLOCK = {
    "async_insert": 0,
    "input_format_parallel_parsing": 0,
    "max_insert_threads": 1,
    # The rows of a batch are sums already: adding them up once more finds nothing.
    "optimize_on_insert": 0,
    "min_insert_block_size_rows": 10_000_000,
    "min_insert_block_size_bytes": 4 << 30,
    "max_insert_block_size": 10_000_000,
}
ONCE = {
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "distributed_foreground_insert": 1,  # to the shards now, with the token, not later
}


class Insert(NamedTuple):
    table: str
    format: Format
    data: memoryview
    rows: int


class SinkRejected(Exception):  # noqa: N818  # what happened to the rows
    """ClickHouse refuses the insert for what it says. The text is ClickHouse's."""

    def __init__(self, table: str, text: str, code: int) -> None:
        super().__init__(text)
        self.table = table
        self.code = code


class SinkAbandoned(Exception):  # noqa: N818  # nothing went wrong
    """Not inserted, as far as this worker knows."""


# Each is copied twice on its way to the socket: small enough for a core's own cache.
_PIECE_BYTES = 256 << 10


async def _pieces(data: memoryview) -> AsyncIterator[memoryview]:
    """Without a copy; as a whole, the client would copy it twice."""
    for at in range(0, len(data), _PIECE_BYTES):
        yield data[at : at + _PIECE_BYTES]


class WriterMetrics(Protocol):
    """What is counted, by whoever counts."""

    def inserted(self, table: str, rows: int, seconds: float) -> None: ...
    def failed(self, table: str, reason: str) -> None: ...


@dataclass(slots=True)
class Circuit:
    """Whether the last attempts reached ClickHouse, for `/readyz`."""

    problem: str | None = None
    since: float = field(default_factory=time.monotonic)

    def say(self, problem: str | None) -> None:
        if (problem is None) != (self.problem is None):
            self.since = time.monotonic()
            if problem is None:
                log.info("clickhouse takes inserts again")
            else:
                log.warning("clickhouse takes no inserts; trying again", problem=problem)
        self.problem = problem


class Writer:
    def __init__(
        self,
        settings: ClickHouseSettings,
        metrics: WriterMetrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.circuit = Circuit()
        self._settings = settings
        self._metrics = metrics
        self._sleep = sleep
        self._jitter = jitter
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def insert(
        self, insert: Insert, token: str, allowed: Callable[[], Awaitable[bool]]
    ) -> None:
        """Return once the rows are stored under the token, by this call or an earlier one.

        `allowed` is asked right before each attempt; False raises SinkAbandoned.
        """
        settings = {**ONE_BLOCK, **ONCE, "insert_deduplication_token": token}
        waits = backoff_seconds(self._jitter)
        while True:
            if not await allowed():
                raise SinkAbandoned(f"{token} into {insert.table}")
            begun = time.monotonic()
            try:
                await self._attempt(insert, settings)
            except ClickHouseUnavailable as error:
                problem, reason = str(error), "unavailable"
            except ClickHouseRefused as error:
                self._metrics.failed(insert.table, str(error.code))
                if error.code not in RETRIABLE_CODES:
                    raise SinkRejected(insert.table, str(error), error.code) from error
                problem, reason = str(error), ""
            else:
                self.circuit.say(None)
                self._metrics.inserted(insert.table, insert.rows, time.monotonic() - begun)
                return
            if reason:
                self._metrics.failed(insert.table, reason)
            self.circuit.say(problem[:500])
            await self._sleep(next(waits))

    async def _attempt(self, insert: Insert, settings: dict[str, Any]) -> None:
        with typed_errors(self._settings):
            client = await self._connected()
            pieces = cast(AsyncIterable[bytes], _pieces(insert.data))
            await client.raw_insert(
                insert.table, insert_block=pieces, settings=settings, fmt=insert.format
            )

    async def query(self, statement: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        """Rows of a small question, or of nothing for a statement without an answer.

        Raises ClickHouseUnavailable or ClickHouseRefused."""
        with typed_errors(self._settings):
            client = await self._connected()
            return list((await client.query(statement, parameters=parameters)).result_rows)

    async def ask(
        self,
        statement: str,
        parameters: dict[str, Any],
        allowed: Callable[[], Awaitable[bool]],
    ) -> list[Any]:
        """As `query`, however long ClickHouse is away or overloaded.

        `allowed` is asked right before each attempt; False raises SinkAbandoned.
        """
        waits = backoff_seconds(self._jitter)
        while True:
            if not await allowed():
                raise SinkAbandoned(statement)
            try:
                rows = await self.query(statement, parameters)
            except ClickHouseUnavailable as error:
                problem = str(error)
            except ClickHouseRefused as error:
                if error.code not in RETRIABLE_CODES:
                    raise
                problem = str(error)
            else:
                self.circuit.say(None)
                return rows
            self.circuit.say(problem[:500])
            await self._sleep(next(waits))

    async def command(self, statement: str) -> None:
        with typed_errors(self._settings):
            await (await self._connected()).command(statement)

    async def check(self) -> str | None:
        """None when ClickHouse answers, else what stands in the way."""
        try:
            await self.query("SELECT 1")
        except (ClickHouseUnavailable, ClickHouseRefused) as error:
            return str(error)
        return None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self._settings)
            return self._client
