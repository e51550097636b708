"""Applies what was fetched: collect, intend, insert, confirm; one cycle at a time.

The order is the promise. Kafka holds an intent before anything of it is inserted; all inserts of a
range carry its token; the next intent, or an idle moment, confirms it. Whatever ends this process
between two of these lines, the next owner finds the intent and forms the same range again.

One cycle at a time by construction: two at once would read a stale next offset. Everything about a
partition is forgotten when it is revoked, and read from the ledger when it is assigned.

Errors that end the worker: TooManyDeadError, SinkRejected (rows that no one can store), and bugs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from sinks.writer import SinkAbandoned
from streams.application import Application, Work
from streams.forming import Former
from streams.kafka_log import Committed, FencedError, Fetched, KafkaLog, TopicPartition
from streams.metrics import WorkerMetrics
from streams.partition import Partition, committed
from streams.settings import WorkerSettings
from streams.taking_up import TakingUp

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
        self._flushing = asyncio.Lock()
        self._resting = False
        self._cycle: asyncio.Task[bool] | None = None
        self._revoked_at: float | None = None
        self.joined = False
        """Whether the group has given this worker its share, be it nothing."""
        self.progressed_at = clock()
        """When something was last applied, or nothing was left to apply."""

    @property
    def partitions(self) -> Mapping[TopicPartition, Partition]:
        return self._partitions

    def assign(self, places: Iterable[TopicPartition], kafka: KafkaLog) -> None:
        self._log = kafka
        self._partitions = {place: Partition(place, self._formers[place.topic]) for place in places}
        for place in self._partitions:
            kafka.let_go(place)  # held back when this worker was fenced
        self._resting, self.joined = False, True
        self._metrics.rebalances.inc()
        self._metrics.partitions.set(len(self._partitions))
        self.progressed_at = self._clock()
        self._wake.set()

    async def revoke(self) -> None:
        """Return when nothing is under way any more and Kafka has been told, or time is up."""
        self._resting, self.joined = True, False
        self._revoked_at = self._clock() if self._partitions else self._revoked_at
        await self._finish()
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
            if known is None or partition.ledger is None or partition.held_back:
                continue
            if partition.intake.is_missing(known, self._clock()):
                partition.intake.broken = True
                self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._until_due()
            async with self._flushing:
                if self._resting or not self._partitions:
                    continue
                self._cycle = asyncio.ensure_future(self._one_cycle())
                try:
                    await self._cycle
                except asyncio.CancelledError:
                    this = asyncio.current_task()
                    if this is None or this.cancelling():  # not the cycle alone
                        self._cycle.cancel()
                        raise
                finally:
                    self._cycle = None

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self._settings.drain_seconds), self._flushing:
                await self._confirm(self._partitions)
        except TimeoutError:
            log.warning("what was intended is left to the next owner")
            if self._cycle is not None:
                self._cycle.cancel()
                with contextlib.suppress(asyncio.CancelledError, FencedError, SinkAbandoned):
                    await self._cycle
        except FencedError:
            self._metrics.fenced.inc()

    async def _until_due(self) -> None:
        while True:
            wait = self._seconds_until_due()
            if wait <= 0:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def _seconds_until_due(self) -> float:
        if self._resting or not self._partitions:
            return _IDLE_SECONDS
        now = self._clock()
        return min(p.seconds_until_due(self._settings, now) for p in self._partitions.values())

    async def _one_cycle(self) -> bool:
        """Whether it went to its end."""
        partitions = self._partitions
        assert self._log is not None
        try:
            await self._taking_up.take_up(
                [p for p in partitions.values() if p.ledger is None], self._log
            )
            await self._taking_up.mend(
                [p for p in partitions.values() if p.intake.broken], self._log
            )
            work = self._due(partitions)
            if work:
                await self._intend(partitions, work)
                await self._application.apply(work, self._log, lambda p: self._has(p))
                self._after(work)
            if not self._due(partitions):
                await self._confirm(partitions)
        except FencedError as error:
            log.warning("fenced", reason=str(error))
            self._metrics.fenced.inc()
            if self._partitions is partitions:
                self._partitions = {}
            return False
        except SinkAbandoned:
            return False
        self.progressed_at = self._clock()
        self._metrics.last_progress.set(time.time())
        return True

    def _has(self, partition: Partition) -> bool:
        return self._partitions.get(partition.place) is partition

    def _due(self, partitions: Mapping[TopicPartition, Partition]) -> list[Work]:
        now = self._clock()
        found = []
        for partition in partitions.values():
            if partition.seconds_until_due(self._settings, now) > 0 or partition.ledger is None:
                continue
            range_ = partition.intake.next_range(partition.ledger, self._settings.batch_rows)
            if range_ is not None:
                found.append(Work(partition, range_, partition.ledger.intended is None))
        return found

    async def _intend(
        self, partitions: Mapping[TopicPartition, Partition], work: list[Work]
    ) -> None:
        """One commit for all: the new intents, and whatever waits to be confirmed."""
        entries = self._unconfirmed(partitions)
        for partition, range_, fresh in work:
            entries.pop(partition.place, None)
            if fresh:
                entries[partition.place] = committed(partition.known.intent(range_))
            else:
                self._metrics.reformed.labels(partition.place.topic).inc()
        begun = self._clock()
        await self._commit(partitions, entries)
        for partition, range_, _ in work:
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

    def _after(self, work: list[Work]) -> None:
        if self._revoked_at is not None:
            self._metrics.takeover_seconds.observe(self._clock() - self._revoked_at)
            self._revoked_at = None
        for partition, range_, _ in work:
            partition.intake.applied(range_, self._clock())
            self._throttle(partition)

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
