"""Running queries: their places, their threads, and how one is stopped from outside."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sinks.embedded.engine import Connection, Engine
from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.places import Places
from sinks.embedded.results import Result
from sinks.embedded.sessions import Session, prepared

_KILL_AGAIN_SECONDS = 0.05


@dataclass(slots=True)
class Query:
    query_id: str
    user: str
    text: str
    # Stands in the query's text, so that the engine's own KILL finds it: the engine gives every
    # query an id of its own, and none can be given to it.
    mark: str = field(default_factory=lambda: f"/*{uuid.uuid4().hex}*/")
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a query runs in: its session, if it has one, database and settings."""

    session: Session | None
    database: str
    settings: Mapping[str, str]


class Queries:
    def __init__(self, engine: Engine, places: Places, defaults: Mapping[str, str]) -> None:
        self._engine = engine
        self._places = places
        self._defaults = defaults
        # Without bound, since places are bounded; kills need a thread when every place is taken.
        self._threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="query")
        self._running: dict[str, Query] = {}

    @asynccontextmanager
    async def placed(self, query: Query) -> AsyncIterator[None]:
        """Registered under its id and, when its turn has come, allowed to run."""
        if query.query_id in self._running:
            raise ClickHouseError(
                Code.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
                f"Query with id = {query.query_id} is already running.",
            )
        self._running[query.query_id] = query
        try:
            async with self._places.taken():
                if query.cancelled:
                    raise ClickHouseError(Code.QUERY_WAS_CANCELLED, "Query was cancelled.")
                yield
        finally:
            query.ended.set()
            del self._running[query.query_id]

    def run(
        self, query: Query, around: Surroundings, work: Callable[[Connection], Result]
    ) -> asyncio.Future[Result]:
        def in_thread() -> Result:
            with prepared(
                self._engine,
                around.session,
                database=around.database,
                defaults=self._defaults,
                settings=around.settings,
            ) as connection:
                if query.cancelled:
                    raise ClickHouseError(Code.QUERY_WAS_CANCELLED, "Query was cancelled.")
                return work(connection)

        future = asyncio.get_running_loop().run_in_executor(self._threads, in_thread)
        future.add_done_callback(lambda _: query.ended.set())
        return future

    async def cancel(self, query: Query) -> None:
        """Until it has ended: a kill that comes before the engine has begun finds nothing."""
        query.cancelled = True
        loop = asyncio.get_running_loop()
        while not query.ended.is_set():
            await loop.run_in_executor(self._threads, self._engine.kill, query.mark)
            try:
                async with asyncio.timeout(_KILL_AGAIN_SECONDS):
                    await query.ended.wait()
            except TimeoutError:
                continue

    def find(self, query_id: str) -> Query | None:
        return self._running.get(query_id)

    async def close(self) -> None:
        await asyncio.gather(*(self.cancel(query) for query in tuple(self._running.values())))
        self._threads.shutdown()
