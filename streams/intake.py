"""What has been fetched of one partition and not applied yet. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from streams.ledger import Ledger, Range
from streams.record_batches import RecordBatch

SILENCE_SECONDS = 10.0


@dataclass(slots=True)
class Intake:
    """Batches whose positions follow each other. Whatever does not is refused, and asked for again:
    a message may have been dropped on its way, and an offset left out must be Kafka's doing."""

    position: int | None = None
    """Where the next batch has to start; None until the first has come or the ledger is known."""
    broken: bool = False
    """Something is missing before what came last: the partition has to be read again from
    `position`."""
    rows: int = 0
    bytes: int = 0
    batches: deque[RecordBatch] = field(default_factory=deque)
    _came: deque[float] = field(default_factory=deque)
    """When each of them came, by the caller's clock."""
    _silent_at: tuple[int, float] | None = None
    """A position below the end of the log, and since when it has been that."""

    @property
    def oldest(self) -> float:
        """When the first of what waits came; 0 where nothing waits."""
        return self._came[0] if self._came else 0.0

    def take(self, batch: RecordBatch, now: float) -> None:
        if self.position is None:
            self.position = batch.start
        if batch.last < self.position:
            return  # read again after a seek
        if batch.start > self.position:
            self.broken = True
            return
        self.batches.append(batch)
        self._came.append(now)
        self.position = batch.last + 1
        self.rows += batch.count
        self.bytes += len(batch.body)

    def is_missing(self, end: int | None, now: float) -> bool:
        """Whether Kafka has had more for a while, below `end`, and nothing of it comes. What was
        dropped on its way is seen when the next batch comes; after the last there is none.

        Without an `end` no fetch was answered since the partition was assigned: that may last for a
        moment, and where it lasts the client has no place to read from and has to be given one.
        """
        position = self.position
        if position is None or (end is not None and position >= end):
            self._silent_at = None
        elif self._silent_at is None or self._silent_at[0] != position:
            self._silent_at = (position, now)
        elif now - self._silent_at[1] >= SILENCE_SECONDS:
            self._silent_at = None
            return True
        return False

    def go_on_from(self, offset: int) -> None:
        """The ledger is known: what lies before is applied already, what comes must start there."""
        while self.batches and self.batches[0].last < offset:
            self._drop_first()
        if self.batches and self.batches[0].start > offset:
            self.clear(offset)
            self.broken = True
        elif not self.batches:
            self.broken = self.broken or (self.position is not None and self.position > offset)
            self.position = offset

    def clear(self, position: int) -> None:
        self.batches.clear()
        self._came.clear()
        self.rows = self.bytes = 0
        self.position = position
        self.broken = False

    def next_range(self, ledger: Ledger, rows: int) -> Range | None:
        """What can be applied next; None while it is not all here."""
        if ledger.intended is not None:
            whole = ledger.range_to(ledger.intended)
            here = self.position is not None and self.position > ledger.readable_to(whole)
            return whole if here or ledger.log_start > whole.last else None
        if ledger.lost_range is not None:
            return ledger.lost_range
        found, last = 0, None
        for batch in self.batches:
            if last is not None and found + batch.count > rows:
                break
            found, last = found + batch.count, batch.last
        # Batches without records alone (transaction markers) wait for one that has some.
        return ledger.range_to(last) if last is not None and found else None

    def of_range(self, range_: Range) -> list[RecordBatch]:
        """Every batch that has a part in it. They stay until `applied`."""
        return [b for b in self.batches if b.last >= range_.first and b.first <= range_.last]

    def rows_of(self, range_: Range) -> int:
        return sum(batch.count for batch in self.of_range(range_))

    def applied(self, range_: Range) -> None:
        while self.batches and self.batches[0].last <= range_.last:
            self._drop_first()

    def _drop_first(self) -> None:
        batch = self.batches.popleft()
        self._came.popleft()
        self.rows -= batch.count
        self.bytes -= len(batch.body)
