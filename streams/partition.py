"""One partition while it is this worker's."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.forming import Former
from streams.intake import Intake
from streams.kafka_log import Committed, TopicPartition
from streams.ledger import Entry, Ledger
from streams.settings import WorkerSettings

_LONG = 60.0


@dataclass(slots=True)
class Partition:
    place: TopicPartition
    former: Former
    intake: Intake = field(default_factory=Intake)
    ledger: Ledger | None = None
    """None until it was read."""
    generation: int = -1
    """Of the group, when the ledger was read."""
    intended_at: float = 0.0
    """When Kafka was asked to hold the intent, by a clock that goes on while the machine sleeps."""
    highest_ms: int | None = None
    """The highest event time applied."""
    held_back: bool = False
    progressed_at: float = 0.0
    """When its last range was applied, or it was assigned."""

    @property
    def known(self) -> Ledger:
        assert self.ledger is not None
        return self.ledger

    def seconds_until_due(self, settings: WorkerSettings, now: float) -> float:
        if self.ledger is None or self.intake.broken:
            return 0.0
        if self.ledger.intended is not None or self.ledger.lost_range is not None:
            ready = self.intake.next_range(self.ledger, settings.batch_rows) is not None
            return 0.0 if ready else _LONG
        if self.intake.rows >= settings.batch_rows:
            return 0.0
        if not self.intake.rows:
            return _LONG
        return max(0.0, self.intake.oldest + settings.flush_seconds - now)


def committed(entry: Entry) -> Committed:
    return Committed(entry.offset, entry.metadata)
