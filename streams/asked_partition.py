"""One partition of requests while it is this worker's: where it stands, and what waits of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog

from streams.intake import Intake
from streams.kafka_log import Committed, KafkaLog, TopicPartition
from streams.ledger import Range
from streams.metrics import WorkerMetrics
from streams.record_batches import RecordBatch

log = structlog.get_logger("streams.asked_partition")

# It is held back while this many batches of it wait.
_HOLD_BACK_ABOVE = 4.0
_LET_GO_BELOW = 2.0


@dataclass(slots=True)
class AskedPartition:
    place: TopicPartition
    kafka: KafkaLog
    metrics: WorkerMetrics
    batch_requests: int
    progressed_at: float
    intake: Intake = field(default_factory=Intake)
    next: int | None = None
    """The next offset to answer; None until the commit was read."""
    generation: int = -1
    """Of the group, when the commit was read."""
    held_back: bool = False
    leaving: bool = False
    """The batch under way is the last."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def shown(self) -> dict[str, object]:
        return {
            "topic": self.place.topic,
            "partition": self.place.partition,
            "next": self.next,
            "waiting": self.intake.rows,
        }

    async def take_up(self) -> None:
        """Go on where the group's commit stands. FencedError: the group went on."""
        entries, self.generation = await self.kafka.read_entries([self.place])
        bounds = (await self.kafka.bounds([self.place]))[self.place]
        committed = entries.get(self.place, Committed(-1, "")).offset
        # A log that ends before the commit was made anew.
        self.next = bounds.start if committed > bounds.end else max(committed, bounds.start)
        self._count_lost(committed, self.next)
        self.intake.go_on_from(self.next)
        log.info("partition of requests taken up", partition=self.place.partition, next=self.next)

    async def mend(self) -> None:
        """Read again what did not arrive, or find that retention has deleted it."""
        position = self.intake.position if self.intake.position is not None else self.next
        assert position is not None
        start = (await self.kafka.bounds([self.place]))[self.place].start
        self._count_lost(position, start)
        self.intake.position, self.intake.broken = max(position, start), False
        self.metrics.seeks.labels(self.place.topic).inc()
        await self.kafka.seek_back(self.place, self.intake.position)

    def _count_lost(self, position: int, start: int) -> None:
        if 0 <= position < start:
            self.metrics.lost.labels(self.place.topic).inc(start - position)
            log.error(
                "requests are lost: Kafka deleted them before they were answered",
                place=self.place,
                first=position,
                last=start - 1,
            )

    def next_batch(self) -> tuple[Range, list[RecordBatch]] | None:
        """As many requests as are answered at once; None where nothing waits."""
        if self.next is None:
            return None
        found: list[RecordBatch] = []
        requests = 0
        for batch in self.intake.batches:
            if found and requests + batch.count > self.batch_requests:
                break
            found.append(batch)
            requests += batch.count
        return (Range("", self.next, found[-1].last), found) if found else None

    async def commit(self, range_: Range, now: float) -> None:
        """Of what is answered. FencedError: its next owner answers it again."""
        entry = Committed(range_.last + 1, "")
        await self.kafka.commit_entries({self.place: entry}, self.generation)
        self.next, self.progressed_at = range_.last + 1, now
        self.intake.applied(range_)
        self.throttle()

    def throttle(self) -> None:
        waiting = self.intake.rows / self.batch_requests
        if not self.held_back and waiting > _HOLD_BACK_ABOVE:
            self.held_back = True
            self.kafka.hold_back(self.place)
            self.metrics.pauses.labels(self.place.topic).inc()
        elif self.held_back and waiting < _LET_GO_BELOW:
            self.held_back = False
            self.kafka.let_go(self.place)
