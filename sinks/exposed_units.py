"""Which units an experiment has met, and what they got first."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sinks.clickhouse import AsyncClient, connect, typed_errors
from sinks.settings import ClickHouseSettings


class TooManyUnitsError(Exception):
    """The experiment has met more units than were asked for."""

    def __init__(self, units: int) -> None:
        super().__init__(f"{units:,} units")
        self.units = units


class ExposedUnits:
    """Keeps a client of its own."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def of(
        self, experiment: str, *, above_version: int, below_version: int, most: int
    ) -> Mapping[str, frozenset[str]]:
        """By variation, the units whose first exposure was by a version between these two.

        Raises TooManyUnitsError, ClickHouseUnavailable or ClickHouseRefused.
        """
        given = {"experiment": experiment, "above": above_version, "below": below_version}
        given |= {"most": most + 1}
        with typed_errors(self._settings):
            client = await self._connected()
            ((count,),) = await self._rows(
                client,
                "SELECT uniqExact(unit) FROM unit_exposures WHERE experiment = {experiment:String}",
                given,
            )
            if count > most:
                raise TooManyUnitsError(count)
            rows = await self._rows(
                client,
                "SELECT first.variation, unit FROM (SELECT unit, min(first) AS first "
                "FROM unit_exposures WHERE experiment = {experiment:String} GROUP BY unit) "
                "WHERE first.version > {above:Int32} AND first.version < {below:Int32} "
                "LIMIT {most:UInt64}",
                given,
            )
        found: dict[str, set[str]] = defaultdict(set)
        for variation, unit in rows:
            found[variation].add(unit)
        return {variation: frozenset(units) for variation, units in found.items()}

    async def _rows(
        self, client: AsyncClient, statement: str, given: Mapping[str, object]
    ) -> Sequence[Any]:
        return (await client.query(statement, parameters=dict(given))).result_rows

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self._settings)
            return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
