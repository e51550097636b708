"""How a partition is taken up at its assignment, and how it goes on where batches are missing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.retry import RETRIABLE_CODES
from sinks.writer import Writer
from streams.kafka_log import KafkaLog, TopicPartition
from streams.ledger import Applied, Ledger, take_up
from streams.metrics import WorkerMetrics
from streams.partition import Partition

log = structlog.get_logger("streams.taking_up")

_RETRY_SECONDS = 0.5
# The watermark of a partition: the highest event time of this many batches.
_BATCHES_LOOKED_AT = 500


def new_epoch() -> str:
    return secrets.token_hex(4)


class TakingUp:
    def __init__(
        self,
        writer: Writer,
        metrics: WorkerMetrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._writer = writer
        self._metrics = metrics
        self._sleep = sleep

    async def take_up(self, partitions: Sequence[Partition], kafka: KafkaLog) -> None:
        """Read the ledger of each before its first record is used."""
        if not partitions:
            return
        places = [partition.place for partition in partitions]
        entries, generation = await kafka.read_entries(places)
        bounds = await kafka.bounds(places)

        async def one(partition: Partition) -> None:
            place = partition.place
            entry = entries.get(place)
            offset = None if entry is None or entry.offset < 0 else entry.offset
            applied = None if offset is not None else await self._last_applied(place, kafka)
            partition.ledger = take_up(
                offset,
                entry.metadata if entry is not None else "",
                bounds[place].start,
                bounds[place].end,
                applied,
                new_epoch(),
            )
            partition.generation = generation
            partition.highest_ms = await self._highest(place, partition.ledger)
            partition.intake.go_on_from(partition.ledger.next)
            if partition.ledger.notice:
                log.warning("partition", place=place, notice=partition.ledger.notice)
            log.info(
                "partition taken up",
                topic=place.topic,
                partition=place.partition,
                epoch=partition.ledger.epoch,
                next=partition.ledger.next,
                intended=partition.ledger.intended,
            )

        await asyncio.gather(*map(one, partitions))

    async def mend(self, partitions: Sequence[Partition], kafka: KafkaLog) -> None:
        """Read again what did not arrive, or find that retention has deleted it."""
        if not partitions:
            return
        bounds = await kafka.bounds([partition.place for partition in partitions])
        for partition in partitions:
            intake, ledger = partition.intake, partition.known
            position = intake.position if intake.position is not None else ledger.next
            start = bounds[partition.place].start
            if start > position:
                # What still waits from before is applied first; then the ledger sees the gap.
                ledger.log_starts_at(start)
                log.error(
                    "offsets are lost: Kafka deleted them before they were applied",
                    place=partition.place,
                    first=position,
                    last=start - 1,
                )
                position = start
            intake.position, intake.broken = position, False
            self._metrics.seeks.labels(partition.place.topic).inc()
            await kafka.seek_back(partition.place, position)

    async def _last_applied(self, place: TopicPartition, kafka: KafkaLog) -> Applied | None:
        rows = await self._asked(
            "SELECT epoch, max(last), toUnixTimestamp64Milli(max(max_append)) FROM batches "
            "WHERE topic = {topic:String} AND partition = {partition:Int32} "
            "GROUP BY epoch ORDER BY max(applied_at) DESC LIMIT 1",
            {"topic": place.topic, "partition": place.partition},
        )
        if not rows:
            return None
        epoch, last, youngest_ms = rows[0]
        later = None if youngest_ms is None else await kafka.first_after(place, int(youngest_ms))
        return Applied(str(epoch), int(last), later)

    async def _highest(self, place: TopicPartition, ledger: Ledger) -> int | None:
        # Not of the intended range, which an earlier owner may have applied to its end: its own
        # events would seem late.
        rows = await self._asked(
            "SELECT toUnixTimestamp64Milli(max(highest)) FROM (SELECT least(max_ts, applied_at) "
            "AS highest FROM batches WHERE topic = {topic:String} "
            "AND partition = {partition:Int32} AND epoch = {epoch:String} AND last < {next:Int64} "
            "ORDER BY first DESC LIMIT {limit:UInt32})",
            {
                "topic": place.topic,
                "partition": place.partition,
                "epoch": ledger.epoch,
                "next": ledger.next,
                "limit": _BATCHES_LOOKED_AT,
            },
        )
        return int(rows[0][0]) if rows and rows[0][0] is not None else None

    async def _asked(self, statement: str, parameters: dict[str, Any]) -> list[Any]:
        while True:
            try:
                rows = await self._writer.query(statement, parameters)
            except ClickHouseUnavailable as error:
                problem = str(error)
            except ClickHouseRefused as error:
                if error.code not in RETRIABLE_CODES:
                    raise
                problem = str(error)
            else:
                self._writer.circuit.say(None)
                return rows
            self._writer.circuit.say(problem[:500])
            await self._sleep(_RETRY_SECONDS)
