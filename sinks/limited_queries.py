"""Questions to ClickHouse that may not take longer, or more memory, than they are allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sinks.clickhouse import AsyncClient, ClickHouseRefused, LastingClient, typed_errors
from sinks.settings import ClickHouseSettings

_TOOK_TOO_LONG = frozenset({159, 160})  # TIMEOUT_EXCEEDED, TOO_SLOW
_MEMORY_LIMIT_EXCEEDED = 241
_EARLIEST_MS = 0
_LATEST_MS = 10_413_791_999_000


class QueryLimits(NamedTuple):
    seconds: float = 10.0
    memory_mb: float = 1_000

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "max_execution_time": self.seconds,
            "max_memory_usage": round(self.memory_mb * 1_000_000),
            # The engine takes one thread for each GiB that is free by default: in a small one, a
            # query would run on one core, though its own memory has a bound.
            "max_threads_min_free_memory_per_thread": 0,
            "join_use_nulls": 0,
            "distributed_product_mode": "global",  # on a cluster, what is joined is made once
            # On, the engine makes sum(v) - shift * count() of sum(v - shift): what shifts are
            # there to avoid.
            "optimize_arithmetic_operations_in_aggregate_functions": 0,
        }


class QueryLimitError(Exception):
    """The question takes more than a query is allowed. The text says of what."""

    def __init__(self, text: str, limit: Literal["time", "memory"]) -> None:
        super().__init__(text)
        self.limit = limit


class LimitedQueries:
    """Keeps a client of its own."""

    def __init__(
        self,
        settings: ClickHouseSettings,
        limits: QueryLimits = QueryLimits(),  # noqa: B008  # frozen
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._client = LastingClient(settings)

    async def rows(
        self,
        statement: str,
        parameters: Mapping[str, Any],
        formats: Mapping[str, str] | None = None,
    ) -> Sequence[Any]:
        """`formats` by column, such as bytes for what may be no text.

        Raises QueryLimitError, ClickHouseUnavailable or ClickHouseRefused.
        """
        try:
            with typed_errors(self._settings):
                client = await self.connected()
                answer = await client.query(
                    statement,
                    parameters=dict(parameters),
                    settings=self._limits.settings,
                    column_formats=dict(formats or {}),
                )
                return answer.result_rows
        except ClickHouseRefused as error:
            if (limit := self._limit_of(error)) is None:
                raise
            raise limit from error

    async def connected(self) -> AsyncClient:
        return await self._client.get()

    async def close(self) -> None:
        await self._client.close()

    def _limit_of(self, error: ClickHouseRefused) -> QueryLimitError | None:
        if error.code in _TOOK_TOO_LONG:
            return QueryLimitError(f"it takes longer than {self._limits.seconds:g} s", "time")
        if error.code == _MEMORY_LIMIT_EXCEEDED:
            return QueryLimitError(f"it takes more than {self._limits.memory_mb:,g} MB", "memory")
        return None


def milliseconds(at: datetime) -> int:
    """Within what a DateTime64 can hold."""
    return min(max(_EARLIEST_MS, round(at.timestamp() * 1000)), _LATEST_MS)


def moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
