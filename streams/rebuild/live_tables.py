"""What the live tables hold: ranges by partition, and how much room everything takes."""

# ruff: noqa: S608  # names come from settings with a pattern

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sinks.settings import ClickHouseSettings
from sinks.writer import Writer
from streams.kafka_log import TopicPartition
from streams.rebuild.fresh import REBUILT
from streams.rebuild.spans import Life, LiveRange

_MS = "toUnixTimestamp64Milli"


class Room(NamedTuple):
    needed_bytes: int
    """What the live tables take."""
    free_bytes: int
    """Of the fullest disk."""


class LiveTables:
    """Of one database, which is also asked for what lies in the old tables after the swap."""

    def __init__(self, writer: Writer, settings: ClickHouseSettings) -> None:
        self.writer = writer
        self.settings = settings

    async def lives(self) -> dict[TopicPartition, list[Life]]:
        rows = await self._asked(
            "SELECT topic, partition, epoch, min(first), max(last), "
            f"{_MS}(min(applied_at)), {_MS}(max(applied_at)) "
            "FROM batches GROUP BY topic, partition, epoch ORDER BY topic, partition, epoch"
        )
        found: dict[TopicPartition, list[Life]] = defaultdict(list)
        for topic, partition, epoch, first, last, begun, ended in rows:
            life = Life(epoch, first, last, _moment(begun), _moment(ended))
            found[TopicPartition(topic, partition)].append(life)
        return dict(found)

    async def ranges(self, place: TopicPartition, epoch: str, begin: int = 0) -> list[LiveRange]:
        """Those that end at or after `begin`."""
        rows = await self._asked(
            "SELECT first, last, rows + dead + skipped, lost, "
            f"{_MS}(applied_at), worker FROM batches "
            "WHERE topic = {topic:String} AND partition = {partition:Int32} "
            "AND epoch = {epoch:String} AND last >= {begin:Int64} ORDER BY first, last",
            {**place._asdict(), "epoch": epoch, "begin": begin},
        )
        return [
            LiveRange(epoch, first, last, records, lost, _moment(applied_at), worker)
            for first, last, records, lost, applied_at, worker in rows
        ]

    async def highest_ms(self, place: TopicPartition, epoch: str, before: int) -> int | None:
        """The highest event time of the ranges before, as a worker knows it."""
        ((highest,),) = await self._asked(
            f"SELECT {_MS}(max(max_ts)) FROM (SELECT max_ts FROM batches "
            "WHERE topic = {topic:String} AND partition = {partition:Int32} "
            "AND epoch = {epoch:String} AND last < {before:Int64} ORDER BY first DESC LIMIT 500)",
            {**place._asdict(), "epoch": epoch, "before": before},
        )
        return None if highest is None else int(highest)

    async def count(self, table: str, condition: str) -> int:
        ((count,),) = await self._asked(f"SELECT count() FROM {table} WHERE {condition}")
        return int(count)

    async def rows_said(self, place: TopicPartition, epochs: Iterable[str], start: int) -> int:
        """Rows of the ranges of these epochs that reach to `start` or further."""
        listed = ", ".join(f"'{epoch}'" for epoch in epochs)
        ((rows,),) = await self._asked(
            "SELECT sum(rows) FROM batches WHERE topic = {topic:String} "
            "AND partition = {partition:Int32} AND last >= {start:Int64} "
            f"AND epoch IN ({listed})",
            {**place._asdict(), "start": start},
        )
        return int(rows)

    async def room(self) -> Room:
        """On a cluster: of the node that answers."""
        local = "_local" if self.settings.cluster else ""
        names = ", ".join(f"'{table}{local}'" for table in REBUILT)
        ((needed,),) = await self._asked(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE active "
            f"AND database = {{database:String}} AND table IN ({names})",
            {"database": self.settings.database},
        )
        ((free,),) = await self._asked("SELECT min(unreserved_space) FROM system.disks")
        return Room(int(needed), int(free))

    async def _asked(self, statement: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        return await self.writer.ask(statement, parameters or {}, always)


async def always() -> bool:
    """A rebuild wants its inserts until it ends."""
    return True


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
