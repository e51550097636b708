"""Answers of queries: how many are made at a time, and when they are made again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from schemas.topics import EXPOSURES
from service.metrics import ServiceMetrics
from service.query_cache import Offsets, QueryCache
from service.report_settings import ReportSettings
from sinks.limited_queries import LimitedQueries
from sinks.migrate import migrate
from tests.live.clickhouse_fixture import ClickHouse

AT_ONCE = 2


@pytest_asyncio.fixture
async def cache(clickhouse: ClickHouse) -> AsyncIterator[QueryCache]:
    settings = clickhouse.settings.model_copy(update={"database": "query_cache"})
    await migrate(settings)
    queries = LimitedQueries(settings)
    cache = QueryCache(
        "report", (EXPOSURES.name,), queries, ReportSettings(at_once=AT_ONCE), ServiceMetrics()
    )
    yield cache
    await cache.close()
    await queries.close()


async def test_cache_makes_so_many_answers_at_a_time_and_the_others_in_their_turn(
    cache: QueryCache,
) -> None:
    making = most = made = 0
    several = asyncio.Event()

    async def make(_: Offsets) -> bytes:
        nonlocal making, most, made
        making += 1
        most = max(most, making)
        if making == AT_ONCE:
            several.set()
        await asyncio.wait_for(several.wait(), 10)
        await asyncio.sleep(0)  # one more could begin here
        making -= 1
        made += 1
        return b"answer"

    answers = await asyncio.gather(*(cache.get(f"key {n}", make) for n in range(3 * AT_ONCE)))
    assert [answer.body for answer in answers] == [b"answer"] * 3 * AT_ONCE
    assert (most, made) == (AT_ONCE, 3 * AT_ONCE)
