"""Finds the rows that ClickHouse refuses for what they hold, so that the others can be stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import polars as pl
import structlog

from sinks.writer import SinkRejected, Writer
from streams.arrow_inserts import arrow_insert
from streams.decoded import OFFSET, Decoded
from streams.forming import raw_rows
from streams.partition import Partition
from streams.reasons import BadEventReason

log = structlog.get_logger("streams.refused_rows")

# More than a handful of bad rows: the table has changed, and a person has to look.
_MOST_ROWS = 100


class RefusedRows:
    """Asks a twin of the table that checks rows and keeps none."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def isolate(
        self,
        decoded: Decoded,
        partition: Partition,
        rejected: SinkRejected,
        allowed: Callable[[], Awaitable[bool]],
    ) -> Decoded:
        """With the refused rows among the dead. Raises `rejected` where they cannot be found."""
        table, place = partition.former.plan.table, partition.place
        log.warning("looking for the rows that are refused", place=place, problem=str(rejected))
        # Of this partition alone: another one's search must not drop it.
        twin = f"{table}_refusing_{place.partition}"
        await self._writer.command(f"CREATE TABLE IF NOT EXISTS {twin} AS {table} ENGINE = Null")
        verdicts: dict[int, tuple[BadEventReason, str]] = {}

        async def search(frame: pl.DataFrame) -> None:
            insert = arrow_insert(twin, raw_rows(frame, *place))
            try:
                await self._writer.insert(insert, "", allowed)
            except SinkRejected as error:
                if len(verdicts) >= _MOST_ROWS:
                    raise rejected from error
                if len(frame) == 1:
                    said = (BadEventReason.REFUSED_BY_STORE, str(error))
                    verdicts[int(frame[OFFSET][0])] = said
                    return
                half = len(frame) // 2
                await search(frame[:half])
                await search(frame[half:])

        try:
            await search(decoded.frame)
        finally:
            await self._writer.command(f"DROP TABLE IF EXISTS {twin}")
        if not verdicts:
            raise rejected
        return decoded.without(verdicts)
