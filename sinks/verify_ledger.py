"""What Kafka's ledger says is applied, against `batches` and the raw rows.

All three move while they are read. So the tables are read before the ledger, which then has to
cover what they had, and after it, when they have to hold what it has called applied.
"""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from sinks.verify_lives import Life, lives
from sinks.verify_questions import Difference, Findings, Questions
from sinks.verify_sources import RAW_TABLES, text

Place = tuple[str, int]
"""Topic and partition."""


class LedgerEntry(NamedTuple):
    """What the group has committed for a partition."""

    epoch: str
    next: int
    """All before it is applied."""
    intended: int | None
    """The last offset of what was being applied."""

    @property
    def reaches(self) -> int:
        """No later offset can be in any table."""
        return self.next - 1 if self.intended is None else self.intended


ReadLedger = Callable[[], Awaitable[Mapping[Place, LedgerEntry]]]


async def check_ledger(ask: Questions, findings: Findings, read_ledger: ReadLedger) -> None:
    before = _latest(await lives(ask, None))
    stored = await _last_stored(ask)
    ledger = await read_ledger()
    after = {(*_place(life), life.epoch): life.last for life in await lives(ask, None)}
    for place, entry in sorted(ledger.items()):
        key = {"topic": place[0], "partition": str(place[1]), "epoch": entry.epoch}
        last = after.get((*place, entry.epoch))
        if last is not None and last < entry.next - 1:
            expected = f"{entry.next - 1} or more, which Kafka's ledger calls applied"
            findings.add(Difference("batches", key, "last", expected, str(last)))
        earlier = before.get(place)
        if earlier is None or earlier.epoch != entry.epoch:
            continue
        if earlier.last > entry.reaches:
            expected = f"{earlier.last + 1} or more, since batches has all before it"
            findings.add(Difference("the ledger in Kafka", key, "next", expected, str(entry.next)))
        highest = stored.get(place, -1)
        if highest > max(entry.reaches, earlier.last):
            expected = f"at most {entry.reaches}, the end of what was intended"
            table = RAW_TABLES[place[0]]
            findings.add(Difference(table, key, "greatest _offset", expected, str(highest)))
    findings.checked["partitions in Kafka's ledger"] += len(ledger)


def _latest(known: list[Life]) -> dict[Place, Life]:
    """Of partitions with one life: the raw rows of several cannot be told apart."""
    latest: dict[Place, Life] = {}
    several = set()
    for life in known:
        if _place(life) in latest:
            several.add(_place(life))
        latest[_place(life)] = life
    return {place: life for place, life in latest.items() if place not in several}


def _place(life: Life) -> Place:
    return (life.topic, life.partition)


async def _last_stored(ask: Questions) -> dict[Place, int]:
    parts = [
        f"SELECT {text(topic)} AS topic, _partition AS partition, max(_offset) AS last "
        f"FROM {table} WHERE _topic = {text(topic)} GROUP BY partition"
        for topic, table in RAW_TABLES.items()
    ]
    rows = await ask.rows(" UNION ALL ".join(parts))
    return {(topic, partition): last for topic, partition, last in rows}
