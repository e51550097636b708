"""Looks at Kafka and the live tables, and says what a rebuild would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sinks.migrate import migrate
from sinks.settings import ClickHouseSettings
from streams.forming import Plan
from streams.kafka_log import Bounds, TopicPartition
from streams.ledger import Entry
from streams.rebuild.carry_over import raw_before
from streams.rebuild.fresh import RebuildError
from streams.rebuild.live_tables import LiveTables, Room
from streams.rebuild.log_reading import LogReading
from streams.rebuild.spans import Life, Span, following, newest, span_of, start_of

# Guesses, for the estimate that is shown: neither was measured yet.
REPLAYED_A_SECOND = 100_000
CARRIED_A_SECOND = 150_000
_BEHIND_ALL = 1 << 62


class Share(NamedTuple):
    """What becomes of one partition."""

    span: Span
    replayed: int
    """Records that were applied so far."""
    last: int
    """Where they end."""


@dataclass(frozen=True, slots=True)
class Planned:
    shares: Mapping[TopicPartition, Share]
    carried: Mapping[str, int]
    """Raw rows that Kafka gives no more, or that are not asked of it, by table."""
    room: Room
    notices: tuple[str, ...]

    @property
    def replayed(self) -> int:
        return sum(share.replayed for share in self.shares.values())

    @property
    def seconds(self) -> float:
        return self.replayed / REPLAYED_A_SECOND + sum(self.carried.values()) / CARRIED_A_SECOND

    def spans(self, topic: str) -> list[Span]:
        return [share.span for share in self.shares.values() if share.span.place.topic == topic]


class Planning:
    def __init__(
        self,
        reading: LogReading,
        live: LiveTables,
        settings: ClickHouseSettings,
        plans: Sequence[Plan],
    ) -> None:
        self._reading = reading
        self._live = live
        self._settings = settings
        self._plans = plans

    async def plan(self, since: datetime | None) -> Planned:
        """`since` None: from the earliest record that Kafka has."""
        await self._refuse_old_tables()
        topics = {plan.spec.name for plan in self._plans}
        lives = await self._live.lives()
        entries = await self._reading.entries()
        known = [place for place in await self._reading.places() if place.topic in topics]
        bounds = await self._reading.bounds(known)
        wanted = {} if since is None else await self._reading.offsets_at(known, since)
        shares, notices = {}, []
        for place in sorted({*known, *lives}):
            if place.topic not in topics:
                continue
            found = await self._share(
                place,
                lives.get(place, []),
                entries.get(place),
                bounds.get(place),
                None if since is None else _offset(wanted.get(place)),
            )
            if found is not None:
                shares[place] = found[0]
                notices += found[1]
        planned = Planned(shares, {}, await self._live.room(), tuple(notices))
        carried = {plan.table: await self._carried(plan, planned) for plan in self._plans}
        return Planned(shares, carried, planned.room, planned.notices)

    async def _share(
        self,
        place: TopicPartition,
        lives: list[Life],
        entry: Entry | None,
        bounds: Bounds | None,
        wanted: int | None,
    ) -> tuple[Share, list[str]] | None:
        epoch = newest(lives, None if entry is None else entry.epoch)
        if epoch is None:
            return None  # nothing was ever applied: it is taken in when something is
        ranges = await self._live.ranges(place, epoch)
        if not ranges:
            assert entry is not None
            if any(life.last >= entry.offset for life in lives):
                raise RebuildError(
                    f"{place.topic}/{place.partition} has just begun anew (epoch {epoch}), and "
                    "nothing of that is applied yet: run it again in a moment"
                )
            return Share(span_of(place, lives, epoch, entry.offset), 0, entry.offset - 1), []
        whole, wrong = following(ranges, ranges[0].first)
        name = f"{place.topic}/{place.partition}"
        notices = [f"{name}: {problem}; the log decides" for problem in wrong]
        behind = whole[-1].last + 1
        start = behind
        if bounds is None:
            notices.append(f"{name} is no partition any more: all of it is carried over")
        elif bounds.end < behind:
            notices.append(
                f"{name} ends at {bounds.end}, and {behind - 1} was applied: the topic was made "
                "anew; all of the old one is carried over"
            )
        else:
            start = start_of(whole, wanted, bounds.start)
        replayed = [found for found in whole if found.first >= start]
        records = sum(found.size for found in replayed)
        return Share(span_of(place, lives, epoch, start), records, behind - 1), notices

    async def _carried(self, plan: Plan, planned: Planned) -> int:
        spans = planned.spans(plan.spec.name)
        if not spans:
            return 0
        if any(span.born is not None for span in spans):
            await self._refuse_mixed_epochs(plan, spans)
        return await self._live.count(plan.table, raw_before(spans))

    async def _refuse_mixed_epochs(self, plan: Plan, spans: Sequence[Span]) -> None:
        """Rows are told apart by when they were stored: that has to come out right."""
        for span in spans:
            if span.born is None:
                continue
            moment = int(span.born.timestamp() * 1000)
            stored = await self._live.count(
                plan.table,
                f"_partition = {span.place.partition} AND _offset >= {span.start} "
                f"AND inserted_at < fromUnixTimestamp64Milli({moment})",
            )
            said = await self._live.rows_said(span.place, span.older, span.start)
            if stored > said:
                raise RebuildError(
                    f"{span.place.topic}/{span.place.partition} was made anew, and {stored:,} rows "
                    f"from offset {span.start} on look older than that, where its older batches "
                    f"have {said:,}: what is whose cannot be told. Rebuild from a later time, "
                    "behind the offsets of the old topic"
                )

    async def _refuse_old_tables(self) -> None:
        waiting = await migrate(self._settings, dry_run=True)
        if waiting:
            raise RebuildError(
                f"the live tables are not up to date ({waiting[0].name} is missing): run "
                "`anabranch migrate` first"
            )


def _offset(found: int | None) -> int:
    """Where nothing is as young, all is carried over."""
    return _BEHIND_ALL if found is None else found
