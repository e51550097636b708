"""Applies stretches of the log to a target: read, decode, settle, insert; as a worker does, but it
intends nothing, confirms nothing and tells no dead-letter topic."""

# ruff: noqa: S608  # numbers of ours

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from anabranch.registry import RegistryUnavailableError
from sinks.writer import Insert, SinkRejected, Writer
from streams.decoded import Decoded
from streams.forming import DEAD_LETTERS, Former
from streams.partition import Partition
from streams.rebuild import filling
from streams.rebuild.carry_over import CarryOver
from streams.rebuild.filling import Settled
from streams.rebuild.fresh import FEEDING_VIEWS, RebuildError
from streams.rebuild.live_tables import always
from streams.rebuild.log_reading import GoneError, LogReading, PartitionReader
from streams.rebuild.spans import Span, Stretch
from streams.refused_rows import RefusedRows
from streams.replays import Replays, replayed

_REGISTRY_RETRY_SECONDS = 1.0
_ASKED_AT_ONCE = 5_000


class Replay:
    def __init__(
        self, reading: LogReading, formers: Mapping[str, Former], target: Writer, carry: CarryOver
    ) -> None:
        """`carry` brings what Kafka has deleted by now."""
        self._reading = reading
        self._formers = formers
        self._target = target
        self._carry = carry
        self._replays = Replays(target)
        self._refused = RefusedRows(target)

    async def partition(
        self,
        span: Span,
        stretches: Sequence[Stretch],
        applied: Callable[[Stretch, Sequence[Insert]], None],
    ) -> None:
        """In order. Each is told of when it is stored, with what views add up elsewhere; nothing
        of that where it was carried over."""
        if not stretches:
            return
        async with self._reading.reader(span.place) as reader:
            for stretch in stretches:
                try:
                    settled = await self.settled(reader, span, stretch)
                except GoneError:
                    former = self._formers[span.place.topic]
                    await self._carry.stretch(former.plan, span, stretch)
                    applied(stretch, ())
                else:
                    restated = await self._carry.restatements(span, stretch)
                    applied(stretch, await self.insert(stretch, settled, restated))

    async def settled(self, reader: PartitionReader, span: Span, stretch: Stretch) -> Settled:
        """What the stretch holds. Raises GoneError, and RebuildError where it is not what was
        applied."""
        range_ = stretch.range_
        batches = await reader.take(range_.first, range_.last)
        former = self._formers[span.place.topic]
        decoded = await self._decoded(former, batches, stretch)
        found = replayed(decoded.headers, span.place, span.epoch)
        kept = await self._replays.settle(decoded, span.place, range_, always)
        revived = await self._revived(kept.decoded, kept.replays, span)
        settled = Settled(
            kept.decoded.leaving_out(revived),
            {at: letter for at, letter in kept.replays.items() if at not in revived},
            {at: kept.replays[at] for at in revived},
            tuple(sorted((found.keys() - kept.replays.keys()) | revived)),
        )
        if stretch.records is not None and settled.records != stretch.records:
            raise RebuildError(
                f"{span.place.topic}/{span.place.partition}, {range_.first} to {range_.last}: the "
                f"table batches says that {stretch.records} records were read, and Kafka now has "
                f"{settled.records}: this is another log than the one that was applied"
            )
        return settled

    async def insert(
        self, stretch: Stretch, settled: Settled, restated: pa.Table, *, marks: bool = True
    ) -> list[Insert]:
        """What was inserted into tables that feed views."""
        former = self._formers[stretch.place.topic]

        async def formed() -> list[Insert]:
            return await asyncio.to_thread(
                filling.inserts, former, stretch, settled, restated, marks=marks
            )

        inserts = await formed()
        feeding = []
        while inserts:
            try:
                await self._target.insert(inserts[0], stretch.token, always)
            except SinkRejected as rejected:
                if inserts[0].table != former.plan.table:
                    raise RebuildError(f"{inserts[0].table}: {rejected}") from rejected
                partition = Partition(stretch.place, former)
                decoded = await self._refused.isolate(settled.decoded, partition, rejected, always)
                settled = settled._replace(decoded=decoded)
                letters = filling.refused_letters(stretch, settled)
                await self._target.insert(letters, f"{stretch.token}:refused", always)
                inserts = [insert for insert in await formed() if insert.table != DEAD_LETTERS]
            else:
                done = inserts.pop(0)
                if done.table in FEEDING_VIEWS:
                    feeding.append(done)
        return feeding

    async def again(self, stretch: Stretch, inserts: Sequence[Insert]) -> None:
        """What was formed before, under the same token."""
        for insert in inserts:
            await self._target.insert(insert, stretch.token, always)

    async def _decoded(self, former: Former, batches: Sequence[Any], stretch: Stretch) -> Decoded:
        range_ = stretch.range_
        while True:
            try:
                return await asyncio.to_thread(former.decode, batches, range_, range_.last)
            except RegistryUnavailableError:
                await asyncio.sleep(_REGISTRY_RETRY_SECONDS)

    async def _revived(
        self, decoded: Decoded, replays: Mapping[int, Any], span: Span
    ) -> frozenset[int]:
        """Replays of letters that are none any more: this program reads the letter itself, which
        is stored, so its replay would be a second one."""
        died = {record.offset for record in decoded.dead}
        asked = sorted(
            {
                letter.offset
                for letter in replays.values()
                if letter.epoch == span.epoch and letter.offset >= span.start
            }
            - died
        )
        still: set[int] = set()
        for at in range(0, len(asked), _ASKED_AT_ONCE):
            some = ", ".join(map(str, asked[at : at + _ASKED_AT_ONCE]))
            rows = await self._target.ask(
                "SELECT offset FROM dead_letters WHERE topic = {topic:String} "
                "AND partition = {partition:Int32} AND epoch = {epoch:String} "
                f"AND offset IN ({some})",
                {**span.place._asdict(), "epoch": span.epoch},
                always,
            )
            still |= {offset for (offset,) in rows}
        alive = set(asked) - still
        return frozenset(
            at
            for at, letter in replays.items()
            if letter.epoch == span.epoch and letter.offset in alive
        )
