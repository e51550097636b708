"""A rebuild from its plan to its end: carry over, replay until little is left, swap, close the gap.

Up to the first exchange the live tables are only read. From there on `go_on` leads to the end.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from anabranch.events import RECORD_TYPES
from anabranch.registry import Registry
from anabranch.settings import KafkaSettings, RegistrySettings
from sinks.settings import ClickHouseSettings
from sinks.writer import Writer
from streams.columns import Columns
from streams.forming import PLANS, Former
from streams.rebuild.carry_over import CarryOver
from streams.rebuild.claim import Claim, ClaimedWriter
from streams.rebuild.closing import Closing, Feeding, Stores
from streams.rebuild.fresh import TOKENS_KEPT, Fresh, RebuildError, Said
from streams.rebuild.live_tables import LiveTables
from streams.rebuild.log_reading import LogReading
from streams.rebuild.planning import Planned, Planning
from streams.rebuild.replay import Replay
from streams.rebuild.rounds import SMALL_AT_ONCE, Progress, Rounds, few_at_a_time
from streams.rebuild.swap import Swap, tails_of
from streams.settings import WorkerSettings

# Whoever holds an older intent reads the ledger again before an insert: after some of these spans
# nobody inserts a range again that was applied.
_GUARD_IN_INTENT_AGES = 4


class _Uncounted:
    def inserted(self, table: str, rows: int, seconds: float) -> None: ...
    def failed(self, table: str, reason: str) -> None: ...


class Rebuild:
    def __init__(
        self,
        worker: WorkerSettings,
        kafka: KafkaSettings,
        clickhouse: ClickHouseSettings,
        registry: RegistrySettings,
        progress: Progress,
    ) -> None:
        """`worker` are the settings of the workers that write into the live tables."""
        self.fresh = Fresh(clickhouse)
        self._settings = worker
        self._progress = progress
        self._asking = Writer(clickhouse, _Uncounted())
        self._claim = Claim(self.fresh, self._asking)
        self._writer = ClaimedWriter(clickhouse, _Uncounted(), self._claim)
        self._fresh_writer = ClaimedWriter(self.fresh.settings, _Uncounted(), self._claim)
        self._live = LiveTables(self._writer, clickhouse)
        # After the swap: the old tables.
        self._beside = LiveTables(self._fresh_writer, self.fresh.settings)
        self._reading = LogReading(kafka, worker.group, check_crcs=worker.check_crcs)
        schemas = Registry(registry)
        self._plans = [plan.with_unit_sums(worker.unit_sums) for plan in PLANS]
        kinds = {kind.TOPIC: kind for kind in RECORD_TYPES}
        self._formers = {
            plan.spec.name: Former(plan, kinds[plan.spec.name], Columns(plan.spec, schemas.schema))
            for plan in self._plans
        }
        self._carries: list[CarryOver] = []
        self._swap = Swap(self.fresh, self._writer)
        self._guard = timedelta(seconds=_GUARD_IN_INTENT_AGES * worker.intent_age_seconds)

    async def close(self) -> None:
        for carry in self._carries:
            await carry.close()
        await self._writer.close()
        await self._fresh_writer.close()
        await self._asking.close()

    async def said(self) -> Said:
        return await self.fresh.said(self._writer)

    async def plan(self, since: datetime | None) -> Planned:
        planning = Planning(self._reading, self._live, self.fresh.live, self._plans)
        return await planning.plan(since)

    async def drop(self) -> None:
        """Whoever calls this has looked at the state."""
        await self.fresh.drop(self._writer)

    async def run(self, planned: Planned) -> None:
        id_ = secrets.token_hex(4)
        await self.fresh.make(self._writer, id_)
        async with self._claim.held(id_):
            carry = self._carry(self._live, self._fresh_writer, id_)
            await self._carry_over(carry, planned)
            replay = Replay(self._reading, self._formers, self._fresh_writer, carry)
            rounds = Rounds(replay, self._live, planned, self._formers, self._progress, self._guard)
            self._progress.phase("replaying the log")
            await rounds.replay_what_is_settled(id_)
            tails = rounds.tails()
            self._progress.phase("catching up with the workers")
            await self.fresh.drop_views(self._writer)
            await rounds.replay_the_rest()
            await rounds.refuse_new_epochs()
            # The same question as after the swap: it has to have an answer before.
            await self._closing(id_).gaps({tail.place: tail for tail in tails})
            self._progress.phase("swapping the tables")
            await self._claim.check()
            detail = await self._swap.begin(id_, tails)
            await self._finish(id_, detail, rounds.feeding)

    async def go_on(self, said: Said) -> None:
        """After a swap that was cut short."""
        async with self._claim.held(said.id):
            if said.gap_closed:
                await self._swap.end(said.id)
                return
            await self._swap.exchange(said.swap)
            inserts = await self._swap.batches_since(said.swap)
            if inserts > TOKENS_KEPT // 2:
                await self._swap.copy_marks(said.swap)
                await self._swap.end(said.id)
                raise RebuildError(
                    f"the tables are swapped now, but {inserts:,} batches were applied since "
                    "that began, and which of those around it the new tables have cannot be told "
                    "by their tokens any more. Run `anabranch rebuild --from EARLIEST --restart` "
                    "while Kafka still holds that moment"
                )
            await self._finish(said.id, said.swap, {})

    async def _finish(self, id_: str, detail: Any, feeding: Feeding) -> None:
        await self._swap.exchange(detail)
        await self._swap.copy_marks(detail)
        self._progress.phase("applying again what workers applied meanwhile")
        closing = self._closing(id_)
        gaps = await closing.gaps(tails_of(detail))
        await few_at_a_time(lambda gap: closing.close(gap, feeding), gaps, SMALL_AT_ONCE)
        await self._swap.copy_marks(detail)
        await self._swap.end(id_)

    def _closing(self, id_: str) -> Closing:
        carries = (
            self._carry(self._beside, self._writer, id_),
            self._carry(self._live, self._writer, id_),
        )
        return Closing(
            self._reading,
            Stores(self._beside, self._live),
            self._formers,
            Replay(self._reading, self._formers, self._writer, carries[0]),
            carries,
            self._settings.grace_seconds,
        )

    def _carry(self, source: LiveTables, target: Writer, id_: str) -> CarryOver:
        carry = CarryOver(source, target, id_)
        self._carries.append(carry)
        return carry

    async def _carry_over(self, carry: CarryOver, planned: Planned) -> None:
        self._progress.phase("carrying over what Kafka does not give")
        for plan in self._plans:
            self._progress.expect(plan.table, planned.carried[plan.table])
        for plan in self._plans:

            def carried(rows: int, table: str = plan.table) -> None:
                self._progress.advance(table, rows)

            await carry.before(plan, planned.spans(plan.spec.name), carried)
