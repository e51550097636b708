"""The second database: the same tables made by the same migrations, and a journal of the rebuild.

Its state is what the journal says. A database without one is somebody else's, and left alone.
"""

# ruff: noqa: S608  # names come from settings with a pattern and from the table of tables

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sinks.clickhouse import UNKNOWN_DATABASE, UNKNOWN_TABLE, ClickHouseRefused
from sinks.migrate import migrate
from sinks.migration_journal import EVERY_NODE
from sinks.settings import ClickHouseSettings
from sinks.writer import Writer
from streams.forming import BATCHES, DEAD_LETTER_MARKS, DEAD_LETTERS, PLANS, RESTATEMENTS

FILLED_BY_VIEWS = ("metric_hours", "metric_days", "batch_totals")
FEEDING_VIEWS = frozenset({"metric_windows", BATCHES})
LEDGER_SIDE = (DEAD_LETTERS, DEAD_LETTER_MARKS, RESTATEMENTS, BATCHES)
REBUILT: tuple[str, ...] = (
    *(plan.table for plan in PLANS),
    *dict.fromkeys(table for plan in PLANS for table, _ in plan.aggregates),
    *FILLED_BY_VIEWS,
    *LEDGER_SIDE,
)
"""Every table that is made of the log, in the order of the swap: the marks of dead letters late,
since workers ask them."""

KEPT: frozenset[str] = frozenset({"migrations", "key_uses", "reports"})
"""Tables that a rebuild leaves alone."""

# The gap after the swap is closed by tokens: none may be forgotten before.
TOKENS_KEPT = 1_000_000
_JOURNAL = "rebuild_journal"
_DATABASE_ALREADY_EXISTS = 82
# Else ClickHouse refuses to drop a large table.
_DROP = {"max_table_size_to_drop": 0, "max_partition_size_to_drop": 0}


class RebuildError(Exception):
    """The rebuild cannot go on, or may not begin. The text says in what state all is, and what to
    do."""


class State(StrEnum):
    ABSENT = "absent"
    UNFINISHED = "unfinished"
    """The live tables are untouched."""
    SWAPPING = "swapping"
    """Live tables lie in both databases."""
    DONE = "done"
    """Only old tables are left in it."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the journal says."""

    state: State
    id: str = ""
    silent_seconds: float = 0.0
    """Since the last sign of life."""
    by: str = ""
    """Host and process that gave it."""
    swap: Any = None
    """What the swap noted of itself before it began."""
    gap_closed: bool = False


def this_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


class Fresh:
    def __init__(self, live: ClickHouseSettings) -> None:
        name = f"{live.database}_rebuild"
        if len(name) > 64:
            raise RebuildError(f"the name {name!r} is too long for a database")
        self.live = live
        self.settings = live.model_copy(
            update={"database": name, "deduplication_window": TOKENS_KEPT}
        )
        self.local = "_local" if live.cluster else ""
        self.on_cluster = f" ON CLUSTER `{live.cluster}`" if live.cluster else ""

    @property
    def name(self) -> str:
        return self.settings.database

    async def said(self, writer: Writer) -> Said:
        ((there,),) = await writer.query(
            "SELECT count() FROM system.databases WHERE name = {name:String}", {"name": self.name}
        )
        if not there:
            return Said(State.ABSENT)
        try:
            rows = await writer.query(
                "SELECT step, id, detail, by, toFloat64(now64(3) - at) "
                f"FROM `{self.name}`.{_JOURNAL} ORDER BY at"
            )
        except ClickHouseRefused as refused:
            if refused.code in {UNKNOWN_TABLE, UNKNOWN_DATABASE}:
                raise RebuildError(
                    f"there is a database {self.name!r} that no rebuild has made, or that one had "
                    "only begun to make; look at it and drop it"
                ) from refused
            raise
        steps = {step: detail for step, _, detail, _, _ in rows}
        *_, id_, _, by, silent = rows[-1] if rows else ("", "", "", "", 0.0)
        swap = json.loads(steps["swapping"]) if "swapping" in steps else None
        state = State.UNFINISHED
        if "closed" in steps:
            state = State.DONE
        elif swap is not None:
            state = State.SWAPPING
        return Said(state, id_, float(silent), by, swap, "gap_closed" in steps)

    async def make(self, writer: Writer, id_: str) -> None:
        """Raises RebuildError where another rebuild was faster."""
        try:
            await writer.command(f"CREATE DATABASE `{self.name}`{self.on_cluster}")
        except ClickHouseRefused as refused:
            if refused.code == _DATABASE_ALREADY_EXISTS:
                raise RebuildError(f"another rebuild has just made {self.name!r}") from refused
            raise
        engine = EVERY_NODE if self.live.cluster else "MergeTree"
        await writer.command(
            f"CREATE TABLE `{self.name}`.{_JOURNAL}{self.on_cluster} ("
            "at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When, UTC, in ms', "
            "id String COMMENT 'Which rebuild', "
            "step LowCardinality(String) COMMENT 'What it was about to do, or alive', "
            "detail String COMMENT 'What it needs to go on, as JSON', "
            "by String COMMENT 'Host and process') "
            f"ENGINE = {engine} ORDER BY at COMMENT 'How far a rebuild is'"
        )
        await self.note(writer, id_, "begun")
        await migrate(self.settings)

    async def note(self, writer: Writer, id_: str, step: str, detail: object = None) -> None:
        text = json.dumps(detail).replace("\\", "\\\\").replace("'", "\\'")
        await writer.command(
            f"INSERT INTO `{self.name}`.{_JOURNAL} (id, step, detail, by) "
            f"VALUES ('{id_}', '{step}', '{text}', '{this_process()}')"
        )

    async def last_sign(self, writer: Writer) -> tuple[str, str] | None:
        """Which rebuild gave it, and which process."""
        rows = await writer.query(
            f"SELECT id, by FROM `{self.name}`.{_JOURNAL} ORDER BY at DESC LIMIT 1"
        )
        return (rows[0][0], rows[0][1]) if rows else None

    async def drop_views(self, writer: Writer) -> None:
        """What is inserted from here on reaches no table of this database that a view fills."""
        rows = await writer.query(
            "SELECT name FROM system.tables WHERE database = {name:String} "
            "AND engine = 'MaterializedView'",
            {"name": self.name},
        )
        for (view,) in rows:
            await writer.command(f"DROP VIEW IF EXISTS `{self.name}`.`{view}`{self.on_cluster}")

    async def drop(self, writer: Writer) -> None:
        """All of it, large tables too. The journal goes last: cut short, it still knows."""
        rows = await writer.query(
            "SELECT name FROM system.tables WHERE database = {name:String} "
            f"ORDER BY engine != 'MaterializedView', name = '{_JOURNAL}', name",
            {"name": self.name},
        )
        settings = ", ".join(f"{name} = {value}" for name, value in _DROP.items())
        for (table,) in rows:
            if table == _JOURNAL:
                continue
            await writer.command(
                f"DROP TABLE IF EXISTS `{self.name}`.`{table}`{self.on_cluster} SYNC "
                f"SETTINGS {settings}"
            )
        await writer.command(f"DROP DATABASE IF EXISTS `{self.name}`{self.on_cluster} SYNC")
