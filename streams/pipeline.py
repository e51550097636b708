"""Applies what was fetched: collect, intend, insert, confirm; each partition at its own pace.

The order is the promise. Kafka holds an intent before anything of it is inserted; all inserts of a
range carry its token; the next intent, or an idle moment, confirms it. Whatever ends this process
between two of these lines, the next owner finds the intent and forms the same range again.

One range of a partition at a time: two at once would read a stale next offset. One turn at a time
decides what begins, and it alone commits. Everything about a partition is forgotten when it is
revoked, and read from the ledger when it is assigned.

Errors that end the worker: TooManyDeadError, SinkRejected (rows that no one can store), and bugs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from streams.application import Application, Work
from streams.forming import Former
from streams.kafka_log import Committed, FencedError, Fetched, KafkaLog, TopicPartition
from streams.metrics import WorkerMetrics
from streams.partition import Partition, committed
from streams.settings import WorkerSettings
from streams.taking_up import TakingUp
from streams.under_way import UnderWay

log = structlog.get_logger("streams.pipeline")

# A partition is held back while this many batches of it wait.
_HOLD_BACK_ABOVE = 2.0
_LET_GO_BELOW = 1.0
_IDLE_SECONDS = 1.0


class Pipeline:
    def __init__(
        self,
        settings: WorkerSettings,
        formers: Mapping[str, Former],
        taking_up: TakingUp,
        application: Application,
        metrics: WorkerMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._formers = formers
        self._taking_up = taking_up
        self._application = application
        self._metrics = metrics
        self._clock = clock
        self._log: KafkaLog | None = None
        self._partitions: dict[TopicPartition, Partition] = {}
        self._wake = asyncio.Event()
        self._under_way = UnderWay(
            settings.batches_at_once,
            settings.threads * settings.batch_rows,  # about a kilobyte of memory each
            self._one_ended,
        )
        self._ended = False
        """Whether a range has ended since the last turn."""
        self._full = False
        """Whether something is due that has to wait for another to end."""
        self._deciding = asyncio.Lock()
        self._turn: asyncio.Task[None] | None = None
        self._resting = False
        self._revoked_at: float | None = None
        self.joined = False
        """Whether the group has given this worker its share, be it nothing."""

    @property
    def partitions(self) -> Mapping[TopicPartition, Partition]:
        return self._partitions

    def assign(self, places: Iterable[TopicPartition], kafka: KafkaLog) -> None:
        self._log = kafka
        now = self._clock()
        self._partitions = {
            place: Partition(place, self._formers[place.topic], progressed_at=now)
            for place in places
        }
        for place in self._partitions:
            kafka.let_go(place)  # held back when this worker was fenced
        self._resting, self.joined = False, True
        self._metrics.rebalances.inc()
        self._metrics.partitions.set(len(self._partitions))
        self._wake.set()

    async def revoke(self) -> None:
        """Return when nothing is under way any more and Kafka has been told, or time is up."""
        self._resting, self.joined = True, False
        self._revoked_at = self._clock() if self._partitions else self._revoked_at
        await self._finish()
        self._under_way.forget_fenced()
        for place in self._partitions:
            if self._log is not None:
                self._log.let_go(place)
        # What another worker does next with them stands in the ledger alone: nothing is kept.
        self._partitions = {}
        self._metrics.partitions.set(0)
        self._metrics.held_back.set(0)

    async def drain(self) -> None:
        """For a stop: what is intended is applied and confirmed; what only waits is left."""
        await self.revoke()

    async def accept(self, place: TopicPartition, fetched: Fetched) -> None:
        partition = self._partitions.get(place)
        if partition is None:
            return  # on its way while the partition was revoked; its next owner reads it
        now = self._clock()
        for batch in fetched.batches:
            partition.intake.take(batch, now)
        self._throttle(partition)
        self._wake.set()

    def look_for_missing(self, end: Callable[[TopicPartition], int | None]) -> None:
        """Ask again for what Kafka has and nobody brings."""
        for place, partition in self._partitions.items():
            known = end(place)
            if partition.ledger is None or partition.held_back:
                continue
            if partition.intake.is_missing(known, self._clock()):
                partition.intake.broken = True
                self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._until_due()
                async with self._deciding:
                    self._turn = asyncio.ensure_future(self._one_turn())
                    try:
                        await self._turn
                    except asyncio.CancelledError:
                        this = asyncio.current_task()
                        if this is None or this.cancelling():  # not the turn alone
                            self._turn.cancel()
                            raise
                    finally:
                        self._turn = None
        finally:
            await self._under_way.cancel()

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_seconds), self._deciding:
                await self._under_way.all_ended()
                await self._confirm(self._partitions)
        except TimeoutError:
            log.warning("what was intended is left to the next owner")
            if self._turn is not None:
                self._turn.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._turn
            await self._under_way.cancel()
        except FencedError:
            self._metrics.fenced.inc()

    def _one_ended(self) -> None:
        self._ended = True
        self._wake.set()

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            wait = self._seconds_until_due()
            if wait <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def _seconds_until_due(self) -> float:
        if self._ended:
            return 0.0
        if self._resting or (self._full and self._under_way):
            return _IDLE_SECONDS
        now = self._clock()
        waits = (p.seconds_until_due(self._settings, now) for p in self._idle(self._partitions))
        return min(waits, default=_IDLE_SECONDS)

    def _idle(self, partitions: Mapping[TopicPartition, Partition]) -> list[Partition]:
        return [p for place, p in partitions.items() if place not in self._under_way]

    async def _one_turn(self) -> None:
        """Begin all that is due and has room."""
        partitions = self._partitions
        self._ended = self._full = False
        try:
            self._under_way.raise_error()
            if self._resting or not partitions:
                return
            assert self._log is not None
            idle = self._idle(partitions)
            await self._taking_up.take_up([p for p in idle if p.ledger is None], self._log)
            await self._taking_up.mend([p for p in idle if p.intake.broken], self._log)
            if work := self._due(idle):
                await self._intend(partitions, work)
                for item in work:
                    self._under_way.begin(item.partition.place, item.rows, self._apply(item))
            elif not self._full:
                await self._confirm(partitions)
        except FencedError as error:
            log.warning("fenced", reason=str(error))
            self._metrics.fenced.inc()
            if self._partitions is partitions:
                self._partitions = {}
            await self._under_way.cancel()
            self._under_way.forget_fenced()

    async def _apply(self, work: Work) -> None:
        assert self._log is not None
        await self._application.apply(work, self._log, self._has)
        partition = work.partition
        if self._revoked_at is not None:
            self._metrics.takeover_seconds.observe(self._clock() - self._revoked_at)
            self._revoked_at = None
        partition.intake.applied(work.range_)
        partition.progressed_at = self._clock()
        self._metrics.last_progress.set(time.time())
        self._throttle(partition)

    def _has(self, partition: Partition) -> bool:
        return self._partitions.get(partition.place) is partition

    def _due(self, idle: Iterable[Partition]) -> list[Work]:
        """As much as there is room for, the longest waiting first."""
        now = self._clock()
        found: list[Work] = []
        rows = 0
        for partition in sorted(idle, key=lambda partition: partition.intake.oldest):
            if partition.seconds_until_due(self._settings, now) > 0 or partition.ledger is None:
                continue
            range_ = partition.intake.next_range(partition.ledger, self._settings.batch_rows)
            if range_ is None:
                continue
            fresh = partition.ledger.intended is None
            work = Work(partition, range_, fresh, partition.intake.rows_of(range_))
            if not self._under_way.has_room(len(found) + 1, rows + work.rows):
                self._full = True
                break
            found.append(work)
            rows += work.rows
        return found

    async def _intend(
        self, partitions: Mapping[TopicPartition, Partition], work: list[Work]
    ) -> None:
        """One commit for all: the new intents, and whatever waits to be confirmed."""
        entries = self._unconfirmed(partitions)
        for partition, range_, fresh, _ in work:
            entries.pop(partition.place, None)
            if fresh:
                entries[partition.place] = committed(partition.known.intent(range_))
            else:
                self._metrics.reformed.labels(partition.place.topic).inc()
        begun = self._clock()
        await self._commit(partitions, entries)
        for partition, range_, _, _ in work:
            partition.known.now_intended(range_)
            partition.intended_at = begun
        for place in entries.keys() - {w.partition.place for w in work}:
            partitions[place].known.now_confirmed()

    async def _confirm(self, partitions: Mapping[TopicPartition, Partition]) -> None:
        entries = self._unconfirmed(partitions)
        await self._commit(partitions, entries)
        for place in entries:
            partitions[place].known.now_confirmed()

    def _unconfirmed(
        self, partitions: Mapping[TopicPartition, Partition]
    ) -> dict[TopicPartition, Committed]:
        return {
            place: committed(partition.ledger.entry)
            for place, partition in partitions.items()
            if partition.ledger is not None
            and not partition.ledger.confirmed
            and partition.ledger.intended is None
        }

    async def _commit(
        self,
        partitions: Mapping[TopicPartition, Partition],
        entries: Mapping[TopicPartition, Committed],
    ) -> None:
        if entries:
            assert self._log is not None
            generation = partitions[next(iter(entries))].generation
            with self._metrics.commit_seconds.time():
                await self._log.commit_entries(entries, generation)

    def _throttle(self, partition: Partition) -> None:
        assert self._log is not None
        waiting = partition.intake.rows / self._settings.batch_rows
        if not partition.held_back and waiting > _HOLD_BACK_ABOVE:
            partition.held_back = True
            self._log.hold_back(partition.place)
            self._metrics.pauses.labels(partition.place.topic).inc()
        elif partition.held_back and waiting < _LET_GO_BELOW:
            partition.held_back = False
            self._log.let_go(partition.place)
        self._metrics.held_back.set(sum(p.held_back for p in self._partitions.values()))
