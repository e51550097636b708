"""When each API key was last used, over all processes of the service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from sinks.clickhouse import LastingClient, typed_errors
from sinks.settings import ClickHouseSettings


class Use(NamedTuple):
    last_used_at: datetime
    requests: int


class KeyUses:
    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client = LastingClient(settings)

    async def add(self, uses: Mapping[str, Use]) -> None:
        rows = [(key, use.last_used_at, use.requests) for key, use in uses.items()]
        with typed_errors(self._settings):
            client = await self._client.get()
            await client.insert("key_uses", rows, column_names=("key", "last_used_at", "requests"))

    async def read(self) -> dict[str, Use]:
        with typed_errors(self._settings):
            client = await self._client.get()
            answer = await client.query(
                "SELECT key, toUnixTimestamp64Milli(max(last_used_at)), sum(requests) "
                "FROM key_uses GROUP BY key",
                settings={"max_execution_time": 5},
            )
        return {
            key: Use(datetime.fromtimestamp(at / 1000, UTC), requests)
            for key, at, requests in answer.result_rows
        }

    async def close(self) -> None:
        await self._client.close()
