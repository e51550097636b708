"""The dead letters that ClickHouse has, found by what they are, and the marks that they get.

Every method raises ClickHouseUnavailable or ClickHouseRefused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sinks.clickhouse import AsyncClient

MarkName = Literal["replayed", "applied", "dropped"]
Headers = tuple[tuple[str, bytes | None], ...]


class Place(NamedTuple):
    """Where a letter's record lies in Kafka. A topic made anew has each place once more."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters; None and nothing exclude none."""

    topic: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Both of the moment at which the letter died; this one exclusive."""
    partition: int | None = None
    offset: int | None = None
    places: tuple[Place, ...] = ()
    marked: bool = False
    """Those that have a mark, too."""


class Mark(NamedTuple):
    mark: str
    at_offset: int | None
    marked_at: datetime
    marked_by: str
    note: str


class DeadLetter(NamedTuple):
    """All but the bytes."""

    place: Place
    epoch: str
    reason: str
    detail: str
    value_bytes: int | None
    """None for a tombstone."""
    schema_id: int | None
    timestamp: datetime
    died_at: datetime
    worker: str
    worker_version: str
    marks: tuple[Mark, ...]
    """In the order in which they were made."""

    @property
    def is_applied(self) -> bool:
        return any(mark.mark == "applied" for mark in self.marks)


class Body(NamedTuple):
    """The bytes."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class Count(NamedTuple):
    topic: str
    reason: str
    letters: int
    oldest: datetime
    youngest: datetime


_WITH_MARKS = """
FROM dead_letters GLOBAL LEFT JOIN (
    SELECT topic, partition, epoch, offset,
        arraySort(groupArray((marked_at, mark, at_offset, marked_by, note))) AS marks
    FROM dead_letter_marks GROUP BY topic, partition, epoch, offset
) AS marked USING (topic, partition, epoch, offset)
"""
_COLUMNS = (
    "topic, partition, offset, epoch, reason, detail, length(value), schema_id, timestamp, "
    "died_at, worker, worker_version, marks"
)
_MARK_COLUMNS = (
    *("topic", "partition", "epoch", "offset"),
    *("mark", "at_epoch", "at_offset", "marked_at", "marked_by", "note"),
)


class DeadLetters:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def counts(self, selection: Selection) -> list[Count]:
        where, parameters = _conditions(selection)
        rows = await self._rows(
            f"SELECT topic, reason, count(), min(died_at), max(died_at) {_WITH_MARKS} {where} "
            "GROUP BY topic, reason ORDER BY topic, count() DESC, reason",
            parameters,
        )
        return [
            Count(topic, reason, letters, _utc(oldest), _utc(youngest))
            for topic, reason, letters, oldest, youngest in rows
        ]

    async def youngest(self, selection: Selection, limit: int) -> list[DeadLetter]:
        return await self._letters(
            selection, f"ORDER BY died_at DESC, topic, partition, offset DESC LIMIT {limit:d}"
        )

    async def in_order(self, selection: Selection, limit: int | None = None) -> list[DeadLetter]:
        """As they lay in Kafka; the first so many."""
        most = "" if limit is None else f"LIMIT {limit:d}"
        return await self._letters(selection, f"ORDER BY topic, partition, died_at, offset {most}")

    async def bodies(self, letters: Sequence[DeadLetter]) -> list[Body]:
        """Of each, in the same order."""
        if not letters:
            return []
        rows = await self._rows(
            "SELECT topic, partition, offset, epoch, key, value, headers FROM dead_letters "
            "WHERE (topic, partition, offset) IN {places:Array(Tuple(String, Int32, Int64))} "
            "AND died_at BETWEEN {oldest:DateTime64(3, 'UTC')} AND {youngest:DateTime64(3, 'UTC')}",
            {
                "places": [tuple(letter.place) for letter in letters],
                "oldest": min(letter.died_at for letter in letters),
                "youngest": max(letter.died_at for letter in letters),
            },
            as_bytes=True,
        )
        found = {
            (Place(topic.decode(), partition, offset), epoch.decode()): Body(
                key, value, tuple(map(_header, headers))
            )
            for topic, partition, offset, epoch, key, value, headers in rows
        }
        return [found[letter.place, letter.epoch] for letter in letters]

    async def mark(
        self,
        mark: MarkName,
        letters: Sequence[tuple[DeadLetter, int | None]],
        *,
        by: str,
        note: str,
        at: datetime,
    ) -> None:
        """Each with the offset that its replay got, or None."""
        rows = [
            (*letter.place[:2], letter.epoch, letter.place.offset, mark, "", offset, at, by, note)
            for letter, offset in letters
        ]
        if rows:
            await self._client.insert("dead_letter_marks", rows, column_names=_MARK_COLUMNS)

    async def _letters(self, selection: Selection, order: str) -> list[DeadLetter]:
        where, parameters = _conditions(selection)
        rows = await self._rows(f"SELECT {_COLUMNS} {_WITH_MARKS} {where} {order}", parameters)
        return [_letter(row) for row in rows]

    async def _rows(
        self, statement: str, parameters: dict[str, Any], *, as_bytes: bool = False
    ) -> list[Any]:
        answer = await self._client.query(
            statement,
            parameters=parameters,
            query_formats={"String": "bytes"} if as_bytes else None,
        )
        return list(answer.result_rows)


def _conditions(selection: Selection) -> tuple[str, dict[str, Any]]:
    wanted: tuple[tuple[str, str, object], ...] = (
        ("topic = {topic:String}", "topic", selection.topic),
        ("reason = {reason:String}", "reason", selection.reason),
        ("died_at >= {since:DateTime64(3, 'UTC')}", "since", selection.since),
        ("died_at < {until:DateTime64(3, 'UTC')}", "until", selection.until),
        ("partition = {partition:Int32}", "partition", selection.partition),
        ("offset = {offset:Int64}", "offset", selection.offset),
        (
            "(topic, partition, offset) IN {places:Array(Tuple(String, Int32, Int64))}",
            "places",
            [tuple(place) for place in selection.places] or None,
        ),
    )
    given = [(text, name, value) for text, name, value in wanted if value is not None]
    texts = [text for text, _, _ in given]
    if not selection.marked:
        texts.append("empty(marks)")
    where = f"WHERE {' AND '.join(texts)}" if texts else ""
    return where, {name: value for _, name, value in given}


def _letter(row: Sequence[Any]) -> DeadLetter:
    *place, epoch, reason, detail, size, schema_id, timestamp, died_at, worker, version, marks = row
    return DeadLetter(
        Place(*place),
        epoch,
        reason,
        detail,
        size,
        schema_id,
        _utc(timestamp),
        _utc(died_at),
        worker,
        version,
        tuple(Mark(mark, offset, _utc(at), by, note) for at, mark, offset, by, note in marks),
    )


def _header(header: dict[str, bytes | None]) -> tuple[str, bytes | None]:
    return (header["name"] or b"").decode("utf-8", "surrogateescape"), header["value"]


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
