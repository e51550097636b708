"""The ledger of a partition: which range of offsets is applied next, and what Kafka is told of it.

A range is *intended*, then *inserted*, then *confirmed* by the next commit. Kafka holds the entry:
the offset of the next record to apply and, in its metadata, the last offset of the range that is
about to be applied. Every insert carries the range's token, and ClickHouse drops what it has seen.

Pure: no client, no clock. `tests/unit/test_ledger.py` crashes it at every point.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

_METADATA = re.compile(r"anabranch 1 (?P<epoch>[0-9a-z]{4,32}) (?P<last>\d+|-)")


class Entry(NamedTuple):
    """What Kafka holds for a partition."""

    offset: int
    """The next record to apply."""
    epoch: str
    """Which life of the partition: a topic made anew must not meet the tokens of the old one."""
    intended: int | None
    """The last offset of the range about to be applied; None between ranges."""

    @property
    def metadata(self) -> str:
        return f"anabranch 1 {self.epoch} {'-' if self.intended is None else self.intended}"


def read_entry(offset: int, metadata: str) -> Entry | None:
    """None for a commit that is not ours: somebody set the offset with a tool."""
    found = _METADATA.fullmatch(metadata)
    if found is None:
        return None
    last = found["last"]
    return Entry(offset, found["epoch"], None if last == "-" else int(last))


class Range(NamedTuple):
    """Offsets that are applied as one, both ends inclusive."""

    epoch: str
    first: int
    last: int

    def token(self, topic: str, partition: int) -> str:
        return f"{topic}:{partition}:{self.epoch}:{self.first}-{self.last}"


class Applied(NamedTuple):
    """The end of what the table `batches` knows of a partition."""

    epoch: str
    last: int
    first_later: int | None = None
    """The first offset whose record is younger, for Kafka, than all that was applied."""


@dataclass(slots=True)
class Ledger:
    epoch: str
    next: int
    """The next offset to apply: the start of the next range."""
    intended: int | None = None
    """The end of that range, once Kafka holds the intent."""
    confirmed: bool = True
    """Kafka knows that nothing is under way."""
    log_start: int = 0
    """Offsets below it are gone from Kafka."""
    cut_at: int | None = None
    """The broker lost the end of its log, the intended range among it: from here on offsets are
    given out again, to other records, which need another epoch."""
    epoch_after_cut: str = ""
    notice: str | None = None
    """What a person should know of how this partition was taken up."""

    @property
    def entry(self) -> Entry:
        return Entry(self.next, self.epoch, self.intended)

    def range_to(self, last: int) -> Range:
        """The next range, if it ends there. An intent leaves no choice."""
        if self.intended is not None and last != self.intended:
            raise ValueError(f"{self.next} to {self.intended} is intended, not to {last}")
        if last < self.next:
            raise ValueError(f"a range from {self.next} cannot end at {last}")
        return Range(self.epoch, self.next, last)

    def intent(self, range_: Range) -> Entry:
        """What Kafka has to hold before anything of the range is inserted."""
        return Entry(range_.first, range_.epoch, range_.last)

    def now_intended(self, range_: Range) -> None:
        assert range_ == self.range_to(range_.last)
        self.intended, self.confirmed = range_.last, False

    def now_inserted(self, range_: Range) -> None:
        """Of every table. The next entry that Kafka gets confirms it."""
        assert self.intended == range_.last
        self.next, self.intended = range_.last + 1, None
        if self.cut_at is not None:
            self.epoch, self.next, self.cut_at = self.epoch_after_cut, self.cut_at, None

    def now_confirmed(self) -> None:
        assert self.intended is None
        self.confirmed = True

    def lost(self, range_: Range) -> int:
        """Offsets of the range that Kafka deleted, or lost, before they were read."""
        deleted = max(0, min(range_.last + 1, self.log_start) - range_.first)
        return deleted + max(0, range_.last - self.readable_to(range_))

    def readable_to(self, range_: Range) -> int:
        """The last offset of the range whose record is still the one that was intended."""
        return range_.last if self.cut_at is None else min(range_.last, self.cut_at - 1)

    def log_starts_at(self, offset: int) -> None:
        """Retention went on. What lies below and was not applied is lost, and gets a range."""
        self.log_start = max(self.log_start, offset)

    @property
    def lost_range(self) -> Range | None:
        """What is gone and was never applied, as the range that records it."""
        if self.intended is None and self.log_start > self.next:
            return Range(self.epoch, self.next, self.log_start - 1)
        return None


def take_up(
    offset: int | None,
    metadata: str,
    log_start: int,
    log_end: int,
    applied: Applied | None,
    new_epoch: str,
) -> Ledger:
    """The ledger of a partition at its assignment, from what Kafka and `batches` say of it.

    `offset` is None where the group has no commit; `applied` is asked for only then.
    """
    if offset is None:
        return _without_entry(log_start, log_end, applied, new_epoch)
    entry = read_entry(offset, metadata)
    if entry is None:
        return Ledger(
            new_epoch,
            offset,
            log_start=log_start,
            notice=f"the offset {offset} was set with a tool: a new epoch begins there",
        )
    if entry.offset > log_end:
        return Ledger(
            new_epoch,
            log_start,
            log_start=log_start,
            notice=f"the log ends at {log_end}, below the committed {offset}: the topic was made "
            f"anew, and is read from {log_start}",
        )
    taken = Ledger(
        entry.epoch,
        entry.offset,
        entry.intended,
        confirmed=entry.intended is None,
        log_start=log_start,
    )
    if entry.intended is not None and entry.intended >= log_end:
        taken.cut_at, taken.epoch_after_cut = log_end, new_epoch
        taken.notice = (
            f"the log ends at {log_end}, and {entry.offset} to {entry.intended} were about to be "
            "applied: the broker lost the rest"
        )
    return taken


def _without_entry(log_start: int, log_end: int, applied: Applied | None, new_epoch: str) -> Ledger:
    if applied is None:
        return Ledger(new_epoch, log_start, log_start=log_start)
    grown_again = applied.first_later is not None and applied.first_later <= applied.last
    if applied.last + 1 > log_end or grown_again:
        return Ledger(
            new_epoch,
            log_start,
            log_start=log_start,
            notice=f"{applied.last} was applied before, and the log, which ends at {log_end}, has "
            f"another record there or none: the topic was made anew, and is read from {log_start}",
        )
    # Kafka forgets the commits of a group that was away for a week.
    return Ledger(
        applied.epoch,
        applied.last + 1,
        log_start=log_start,
        notice=f"Kafka forgot this group's commit: going on at {applied.last + 1}, after what the "
        "table batches has",
    )
