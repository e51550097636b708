"""Which ranges of a partition are replayed, and as what. Pure.

Ranges are those of the live ledger, so that each fresh row of `batches` is the live one, counted
anew, and whoever asks for a range finds it before the swap and after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.kafka_log import TopicPartition
from streams.ledger import Range

# A kilobyte of memory for each, while it is decoded and sent.
RECORDS_AT_ONCE = 50_000


class LiveRange(NamedTuple):
    """A row of `batches`."""

    epoch: str
    first: int
    last: int
    records: int | None
    """What Kafka gave for it; None where `batches` does not say."""
    lost: int
    applied_at: datetime
    worker: str

    @property
    def range_(self) -> Range:
        return Range(self.epoch, self.first, self.last)

    @property
    def size(self) -> int:
        """In records, as far as they are known."""
        return self.last - self.first + 1 if self.records is None else self.records


class Life(NamedTuple):
    """What `batches` has of one epoch of a partition."""

    epoch: str
    first: int
    last: int
    begun: datetime
    """When its first batch was formed, and its last one."""
    ended: datetime


class Span(NamedTuple):
    """A partition: replayed from `start` on, carried over before it."""

    place: TopicPartition
    epoch: str
    start: int
    older: tuple[str, ...] = ()
    """Epochs that are carried over whole."""
    born: datetime | None = None
    """Set where an older epoch has offsets from `start` on, too: rows that were stored before this
    moment are of the older one. Raw rows have no epoch."""


class Stretch(NamedTuple):
    """Ranges that follow each other and are applied as one, under one token."""

    place: TopicPartition
    ranges: tuple[LiveRange, ...]
    token: str

    @property
    def range_(self) -> Range:
        return Range(self.ranges[0].epoch, self.ranges[0].first, self.ranges[-1].last)

    @property
    def records(self) -> int | None:
        known = [found.records for found in self.ranges if found.records is not None]
        return sum(known) if len(known) == len(self.ranges) else None

    @property
    def size(self) -> int:
        return sum(found.size for found in self.ranges)


def newest(lives: Sequence[Life], epoch_of_entry: str | None) -> str | None:
    """The epoch that the group's entry names; where it has none, that of the latest batch."""
    if epoch_of_entry is not None:
        return epoch_of_entry
    return max(lives, key=lambda life: life.ended).epoch if lives else None


def span_of(place: TopicPartition, lives: Sequence[Life], epoch: str, start: int) -> Span:
    older = [life for life in lives if life.epoch != epoch]
    own = next((life for life in lives if life.epoch == epoch), None)
    born = None
    before = [life for life in older if life.last >= start]
    if before and own is not None:
        # Half way between the two: the clocks of worker and store differ by less.
        ended = max(life.ended for life in before)
        born = ended + (own.begun - ended) / 2
    return Span(place, epoch, start, tuple(sorted(life.epoch for life in older)), born)


def start_of(ranges: Sequence[LiveRange], wanted: int | None, log_start: int) -> int:
    """The first offset to replay: where a range begins, at or before the one wanted (None: as early
    as can be), and not before the log does. All is carried over when it lies behind the last."""
    behind = ranges[-1].last + 1 if ranges else log_start
    whole = [found.first for found in ranges if found.first >= log_start]
    if not whole:
        return behind
    if wanted is None or wanted <= whole[0]:
        return whole[0]
    if wanted > ranges[-1].last:
        return behind
    return max(first for first in whole if first <= wanted)


def following(
    ranges: Iterable[LiveRange], begin: int
) -> tuple[tuple[LiveRange, ...], tuple[str, ...]]:
    """The ranges from `begin` on without gap and overlap, and what was wrong with them.

    `batches` has neither, unless it was damaged; then the log knows better.
    """
    kept: list[LiveRange] = []
    wrong = []
    for found in sorted(ranges, key=lambda found: (found.first, found.last)):
        if found.last < begin:
            wrong.append(f"{found.first} to {found.last} was applied twice")
            continue
        if found.first != begin:
            gap = found.first > begin
            wrong.append(
                f"{begin} to {found.first - 1} was never applied"
                if gap
                else f"{found.first} to {begin - 1} was applied twice"
            )
            if gap:
                kept.append(found._replace(first=begin, last=found.first - 1, records=None, lost=0))
            else:
                found = found._replace(first=begin, records=None, lost=0)
        kept.append(found)
        begin = found.last + 1
    return tuple(kept), tuple(wrong)


def settled(ranges: Sequence[LiveRange], guard: timedelta) -> int:
    """How many of them nobody inserts again, whatever happens to the workers: all but those of the
    last moments, by the clocks of those who applied them. The last one is never among them, since
    Kafka may still hold its intent."""
    if not ranges:
        return 0
    limit = max(found.applied_at for found in ranges) - guard
    count = 0
    for found in ranges[:-1]:
        if found.applied_at > limit:
            break
        count += 1
    return count


def bulk(place: TopicPartition, ranges: Iterable[LiveRange], id_: str) -> list[Stretch]:
    """As few stretches as make sense, under tokens of the rebuild's own."""
    stretches = []
    waiting: list[LiveRange] = []

    def close() -> None:
        first, last = waiting[0].first, waiting[-1].last
        token = f"rebuild:{id_}:{place.topic}:{place.partition}:{first}-{last}"
        stretches.append(Stretch(place, tuple(waiting), token))
        waiting.clear()

    held = 0
    for found in ranges:
        if waiting and held + found.size > RECORDS_AT_ONCE:
            close()
            held = 0
        waiting.append(found)
        held += found.size
    if waiting:
        close()
    return stretches


def one_by_one(place: TopicPartition, ranges: Iterable[LiveRange]) -> list[Stretch]:
    """Each under the token that its worker gave it: inserted again by anybody, it changes
    nothing."""
    return [Stretch(place, (found,), found.range_.token(*place)) for found in ranges]
