"""Which units an experiment has met, and what they got first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sinks.clickhouse import AsyncClient, LastingClient, typed_errors
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
        self._client = LastingClient(settings)

    async def of(
        self, experiment: str, *, above_version: int, below_version: int, most: int
    ) -> Mapping[str, frozenset[str]]:
        """By variation, the units whose first exposure was by a version between these two.

        Raises TooManyUnitsError, ClickHouseUnavailable or ClickHouseRefused.
        """
        given = {"experiment": experiment, "above": above_version, "below": below_version}
        given |= {"most": most + 1}
        with typed_errors(self._settings):
            client = await self._client.get()
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

    async def close(self) -> None:
        await self._client.close()
