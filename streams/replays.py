"""Dead letters that come back: of all replays of one, the first that is good is stored.

All replays of a letter go into the partition that it came from, where one owner at a time meets
them in the order of their offsets. It leaves a mark `applied` with the batch that stores the first
one, and leaves out those that come after it, in this batch or a later one.

Formed again after a crash, a range finds the marks of all ranges before it, as it did the first
time, and perhaps its own: a mark that names this very record does not make it a later one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from sinks.writer import Writer
from streams.decoded import Decoded
from streams.kafka_log import TopicPartition
from streams.ledger import Range
from streams.record_batches import Headers
from streams.replay_headers import origin

APPLIED = "applied"
_ASKED_AT_ONCE = 5_000


class Letter(NamedTuple):
    """A dead letter of this partition."""

    epoch: str
    offset: int


Marks = Mapping[Letter, Collection[Letter]]
"""Of letters that were applied: the places of the records that did it."""


class Settled(NamedTuple):
    decoded: Decoded
    """Without the replays that are left out."""
    replays: Mapping[int, Letter]
    """Of what is in the frame: the letter that the record at this offset brings back."""
    skipped: int


class Replays:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def settle(
        self,
        decoded: Decoded,
        place: TopicPartition,
        range_: Range,
        allowed: Callable[[], Awaitable[bool]],
    ) -> Settled:
        """Return once ClickHouse has said what was applied before; without replays, at once."""
        letters = replayed(decoded.headers, place, range_.epoch)
        if not letters:
            return Settled(decoded, letters, 0)
        return settled(decoded, letters, await self._marks(place, letters, allowed), range_.epoch)

    async def _marks(
        self,
        place: TopicPartition,
        letters: Mapping[int, Letter],
        allowed: Callable[[], Awaitable[bool]],
    ) -> Marks:
        found: dict[Letter, set[Letter]] = defaultdict(set)
        offsets = sorted({letter.offset for letter in letters.values()})
        for at in range(0, len(offsets), _ASKED_AT_ONCE):
            some = ", ".join(map(str, offsets[at : at + _ASKED_AT_ONCE]))
            rows = await self._writer.ask(
                "SELECT epoch, offset, at_epoch, at_offset FROM dead_letter_marks "  # noqa: S608
                "WHERE topic = {topic:String} AND partition = {partition:Int32} "
                f"AND mark = '{APPLIED}' AND offset IN ({some})",  # numbers, too many for an URL
                place._asdict(),
                allowed,
            )
            for epoch, offset, at_epoch, at_offset in rows:
                found[Letter(epoch, offset)].add(Letter(at_epoch, at_offset))
        return found


def replayed(
    headers: Mapping[int, Headers], place: TopicPartition, epoch: str
) -> dict[int, Letter]:
    """The letters that records bring back, by the records' offsets.

    A replay that says it is of another partition is a record like any other: nobody could say
    which of two such came first.
    """
    found = {}
    for offset, named in headers.items():
        said = origin(named)
        if said is None or (said.topic, said.partition) != place:
            continue
        letter = Letter(said.epoch or epoch, said.offset)
        if letter.epoch != epoch or letter.offset < offset:  # no letter dies after its replay
            found[offset] = letter
    return found


def settled(decoded: Decoded, letters: Mapping[int, Letter], marks: Marks, epoch: str) -> Settled:
    first: dict[Letter, int] = {}
    left_out = []
    for offset in sorted(letters):
        letter = letters[offset]
        applied = marks.get(letter, ())
        if letter in first or (applied and Letter(epoch, offset) not in applied):
            left_out.append(offset)
        else:
            first[letter] = offset
    replays = {offset: letter for letter, offset in first.items()}
    return Settled(decoded.leaving_out(left_out), replays, len(left_out))


def applied_marks(
    place: TopicPartition,
    replays: Mapping[int, Letter],
    epoch: str,
    applied_at: datetime,
    worker: str,
) -> pa.Table:
    """What the batch that stores them leaves behind."""
    rows = [
        {
            **place._asdict(),
            **letter._asdict(),
            "mark": APPLIED,
            "at_epoch": epoch,
            "at_offset": offset,
            "marked_at": applied_at,
            "marked_by": worker,
            "note": "",
        }
        for offset, letter in sorted(replays.items())
    ]
    return pa.Table.from_pylist(rows, schema=_MARKS)


_MARKS = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("epoch", pa.string()),
        ("offset", pa.int64()),
        ("mark", pa.string()),
        ("at_epoch", pa.string()),
        ("at_offset", pa.int64()),
        ("marked_at", pa.timestamp("ms", "UTC")),
        ("marked_by", pa.string()),
        ("note", pa.string()),
    ]
)
