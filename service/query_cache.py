"""Answers of queries, made once until new events have been applied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from time import perf_counter
from typing import NamedTuple

from service.answer_cache import AnswerCache
from service.answers import etag_of
from service.metrics import ServiceMetrics
from service.query_answers import query_problems
from service.report_settings import ReportSettings
from sinks.applied_offsets import AppliedOffset, applied_offsets
from sinks.limited_queries import LimitedQueries

Offsets = tuple[AppliedOffset, ...]


class KeptAnswer(NamedTuple):
    body: bytes
    etag: str


class QueryCache:
    """Of the answers that follow from the events of some topics."""

    def __init__(
        self,
        route: str,
        topics: Sequence[str],
        queries: LimitedQueries,
        settings: ReportSettings,
        metrics: ServiceMetrics,
        tag_of: Callable[[bytes], str] = etag_of,
        also: Callable[[], Awaitable[Hashable]] | None = None,
    ) -> None:
        """`also` gives whatever else an answer depends on, beside the events."""
        self._route = route
        self._tag_of = tag_of
        self._metrics = metrics

        async def look() -> tuple[Offsets, Hashable]:
            return await applied_offsets(queries, topics), await also() if also else None

        self._cache: AnswerCache[tuple[Offsets, Hashable], KeptAnswer] = AnswerCache(
            *(look, lambda seen: seen, lambda answer: len(answer.body)),
            kept_seconds=settings.kept_seconds,
            busy_share=settings.busy_share,
            at_once=settings.at_once,
            most_bytes=settings.cache_mb * 1_000_000,
        )

    async def get(self, key: Hashable, make: Callable[[Offsets], Awaitable[bytes]]) -> KeptAnswer:
        """Raises a Problem (503)."""

        async def timed(seen: tuple[Offsets, Hashable]) -> KeptAnswer:
            begun = perf_counter()
            body = await make(seen[0])
            self._metrics.report_seconds.labels(self._route).observe(perf_counter() - begun)
            return KeptAnswer(body, self._tag_of(body))

        with query_problems(self._metrics):
            answered = await self._cache.get(key, timed)
        self._metrics.reports.labels(self._route, answered.how.value).inc()
        self._metrics.report_cache_bytes.labels(self._route).set(self._cache.bytes)
        return answered.value

    async def close(self) -> None:
        await self._cache.close()
