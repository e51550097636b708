"""Gives each fresh table the name of its live one. Cut short anywhere, it goes on where it was: the
ids of the tables, which move with their names, say which have moved."""

# ruff: noqa: S608  # names come from settings with a pattern and from the table of tables

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sinks.clickhouse import ClickHouseRefused
from sinks.writer import Writer
from streams.kafka_log import TopicPartition
from streams.rebuild.fresh import REBUILT, Fresh, RebuildError
from streams.replays import APPLIED

_MARK_COLUMNS = (
    *("topic", "partition", "epoch", "offset", "mark", "at_epoch", "ifNull(at_offset, -1)"),
    *("marked_at", "marked_by", "note"),
)


class Tail(NamedTuple):
    """Where a partition's ranges begin that have to be applied again after the swap."""

    place: TopicPartition
    epoch: str
    begin: int
    older: tuple[str, ...]
    """Epochs that were carried over whole."""


class Swap:
    """`writer` is one of the live database, whichever tables it has by then."""

    def __init__(self, fresh: Fresh, writer: Writer) -> None:
        self._fresh = fresh
        self._writer = writer

    async def begin(self, id_: str, tails: Iterable[Tail]) -> Any:
        """What has to be known to go on, written down before the first step."""
        live, fresh = await self._ids(self._fresh.live.database), await self._ids(self._fresh.name)
        missing = [table for table in REBUILT if table not in live or table not in fresh]
        if missing:
            raise RebuildError(f"the table {missing[0]} is not in both databases")
        ((begun_ms,),) = await self._writer.query("SELECT toUnixTimestamp64Milli(now64(3))")
        detail = {
            "begun_ms": int(begun_ms),
            "tables": {table: [live[table], fresh[table]] for table in REBUILT},
            "tails": [[*tail.place, tail.epoch, tail.begin, list(tail.older)] for tail in tails],
        }
        await self._fresh.note(self._writer, id_, "swapping", detail)
        return detail

    async def exchange(self, detail: Any) -> None:
        """Return when every live name stands for a fresh table."""
        now = await self._ids(self._fresh.live.database)
        for table, (old, new) in detail["tables"].items():
            if now[table] == new:
                continue
            if now[table] != old:
                raise RebuildError(
                    f"the live {table} is neither the old table nor the fresh one: somebody else "
                    f"has changed it; its id is {now[table]}, the old one's {old}, the fresh one's "
                    f"{new}"
                )
            await self._exchange(table)

    async def copy_marks(self, detail: Any) -> None:
        """Marks that old tables alone have: those that people made meanwhile, and those of the
        ranges that the fresh tables did not have at the swap."""
        columns = ", ".join(_MARK_COLUMNS)
        live, old = f"`{self._fresh.live.database}`", f"`{self._fresh.name}`"
        tails = tails_of(detail)
        known = ", ".join(f"('{topic}', {partition})" for topic, partition in tails)
        later = " OR ".join(
            f"(topic = '{tail.place.topic}' AND partition = {tail.place.partition} "
            f"AND at_epoch NOT IN ({_listed(tail.older)}) "
            f"AND (at_epoch != '{tail.epoch}' OR at_offset >= {tail.begin}))"
            for tail in tails.values()
        )
        if known:
            later += f" OR (topic, partition) NOT IN ({known})"
        await self._writer.command(
            f"INSERT INTO {live}.dead_letter_marks SELECT * FROM {old}.dead_letter_marks "
            f"WHERE (mark != '{APPLIED}' OR {later or 'true'}) AND ({columns}) "
            f"GLOBAL NOT IN (SELECT {columns} FROM {live}.dead_letter_marks)"
        )

    async def batches_since(self, detail: Any) -> int:
        """Applied since the swap began."""
        ((count,),) = await self._writer.query(
            "SELECT count() FROM batches WHERE applied_at > fromUnixTimestamp64Milli({at:Int64})",
            {"at": detail["begun_ms"]},
        )
        return int(count)

    async def end(self, id_: str) -> None:
        """The new tables forget tokens as the old ones did: from here on nothing of the gap may be
        applied again."""
        await self._fresh.note(self._writer, id_, "gap_closed")
        settings = self._fresh.live
        kind = "replicated" if settings.cluster else "non_replicated"
        for table in REBUILT:
            await self._writer.command(
                f"ALTER TABLE {self._named(settings.database, table)}{self._fresh.on_cluster} "
                f"MODIFY SETTING {kind}_deduplication_window = {settings.deduplication_window}"
            )
        await self._fresh.note(self._writer, id_, "closed")

    async def _exchange(self, table: str) -> None:
        live, fresh = self._fresh.live.database, self._fresh.name
        try:
            await self._writer.command(
                f"EXCHANGE TABLES {self._named(live, table)} AND {self._named(fresh, table)}"
                f"{self._fresh.on_cluster}"
            )
        except ClickHouseRefused as refused:
            raise RebuildError(f"{table} could not be swapped: {refused}") from refused

    def _named(self, database: str, table: str) -> str:
        return f"`{database}`.`{table}{self._fresh.local}`"

    async def _ids(self, database: str) -> dict[str, str]:
        cluster = self._fresh.live.cluster
        source = f"clusterAllReplicas('{cluster}', system.tables)" if cluster else "system.tables"
        rows = await self._writer.query(
            f"SELECT name, groupUniqArray(toString(uuid)) FROM {source} "
            "WHERE database = {database:String} GROUP BY name",
            {"database": database},
        )
        ids: dict[str, str] = {}
        for name, found in rows:
            table = name.removesuffix(self._fresh.local) if self._fresh.local else name
            if table not in REBUILT or (self._fresh.local and table == name):
                continue
            if len(found) > 1:
                raise RebuildError(
                    f"{database}.{name} is not the same table on all nodes of the cluster: a swap "
                    "has reached some of them; EXCHANGE TABLES on the others first"
                )
            ids[table] = found[0]
        return ids


def tails_of(detail: Any) -> Mapping[TopicPartition, Tail]:
    tails = [
        Tail(TopicPartition(topic, partition), epoch, begin, tuple(older))
        for topic, partition, epoch, begin, older in detail["tails"]
    ]
    return {tail.place: tail for tail in tails}


def _listed(epochs: Iterable[str]) -> str:
    return ", ".join(f"'{epoch}'" for epoch in epochs) or "''"
