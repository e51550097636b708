from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import pytest

from anabranch.settings import KafkaSettings
from service.ingestion import UNKNOWN_SECONDS, Ingestion
from sinks.figures import Figures, IngestionFigures
from sinks.settings import ClickHouseSettings
from streams.kafka_log import Bounds, TopicPartition
from streams.log_ends import LogEnds, LogsUnknownError


class NoFigures(IngestionFigures):
    async def read(self) -> Figures:
        return Figures((), {}, {}, {})


class SilentKafka(LogEnds):
    asked = 0

    async def read(self, topics: Collection[str]) -> dict[TopicPartition, Bounds]:
        self.asked += 1
        raise LogsUnknownError("it is away")

    async def firsts(
        self, places: Collection[TopicPartition], times: Collection[datetime]
    ) -> dict[TopicPartition, dict[datetime, int]]:
        raise AssertionError("nothing waits")


async def test_kafka_is_not_asked_again_for_a_while_when_it_did_not_answer() -> None:
    ends = SilentKafka(KafkaSettings())
    now = 100.0
    looks = Ingestion(NoFigures(ClickHouseSettings()), ends, clock=lambda: now)
    first, second = [await looks.look(kept_seconds=-1) for _ in range(2)]
    assert first is not second
    assert first.kafka_problem == second.kafka_problem == "it is away"
    assert ends.asked == 1
    now += UNKNOWN_SECONDS
    await looks.look(kept_seconds=-1)
    assert ends.asked == 2


@pytest.mark.parametrize(("kept_seconds", "same"), [(60.0, True), (-1.0, False)])
async def test_look_serves_another_when_it_is_fresh_enough(kept_seconds: float, same: bool) -> None:
    looks = Ingestion(NoFigures(ClickHouseSettings()), SilentKafka(KafkaSettings()))
    first = await looks.look()
    assert (await looks.look(kept_seconds) is first) == same
