"""Given events in the tables that the shared service reads, put there as a worker puts them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest_asyncio

from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from sinks.migrate import migrate
from tests.live.applied_batches import Applier
from tests.live.clickhouse_fixture import ClickHouse

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    EXPOSURES.name: {"exposure_id": "x", "version": 1, "attributes": (), "source": "test"},
    TURN_METRICS.name: {
        "session": "s",
        "player": "p",
        "exposures": (),
        **dict.fromkeys(("turn_ms", "model_ms", "bundle_tokens", "output_tokens"), 0),
        **dict.fromkeys(("retries", "fallbacks", "tool_calls", "acts", "choices", "time_ticks"), 0),
    },
    INVITES.name: {
        "kind": "sent",
        "invite_id": "i",
        "invitee": None,
        "smart_link_code": "",
        "exposures": (),
    },
    OUTCOMES.name: {"values": (), "dimensions": ()},
}


class EventApplier(Applier):
    """Fields that are left out take a default; each call is a batch of partition 0."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        # A life of its own: the tables are shared with other tests.
        super().__init__(clickhouse.settings, epoch=uuid.uuid4().hex)
        self._given: Sequence[Mapping[str, Any]] = ()

    async def put(self, topic: str, events: Sequence[Mapping[str, Any]]) -> None:
        self._given = events
        await self.apply(topic, 0, len(events))

    def _event(self, topic: str, offset: int, ts: int) -> dict[str, Any]:
        given = self._given[offset - self.next.get((topic, 0), 0)]
        known = {"event_id": f"{self.epoch}-{offset}", "locale": "", "_offset": offset}
        return {**known, "_timestamp": ts, **_DEFAULTS[topic], **given}


@pytest_asyncio.fixture
async def events(clickhouse: ClickHouse) -> AsyncIterator[EventApplier]:
    await migrate(clickhouse.settings)
    made = EventApplier(clickhouse)
    yield made
    await made.writer.close()
