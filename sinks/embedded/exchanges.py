"""One request and its answer: let in, read, given a place, run, counted and logged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog

from sinks.embedded.access import Access
from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.execution import Execution, kill, killed_id
from sinks.embedded.forms import ExternalTable, Form, read_form
from sinks.embedded.intake import InsertQuery, TextQuery, take_in
from sinks.embedded.metrics import Metrics
from sinks.embedded.parameters import Parameters, read_parameters
from sinks.embedded.queries import Queries, Query, Surroundings
from sinks.embedded.replies import Reply
from sinks.embedded.requests import Request
from sinks.embedded.sessions import Session, Sessions
from sinks.embedded.spool import SpoolSpace
from sinks.embedded.statements import Statement, read_statement

log = structlog.get_logger()

_SLOW_SECONDS = 5.0
_CANCELLED = frozenset({Code.QUERY_WAS_CANCELLED, Code.ABORTED})
_REFUSED = frozenset(
    {
        Code.TOO_MANY_SIMULTANEOUS_QUERIES,
        Code.READONLY,
        Code.SESSION_IS_LOCKED,
        Code.QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
    }
)


@dataclass(frozen=True, slots=True)
class Exchanges:
    access: Access
    space: SpoolSpace
    queries: Queries
    sessions: Sessions
    metrics: Metrics

    async def answer(self, request: Request, reply: Reply) -> None:
        # Before the body is read: who may not ask may not fill the disk either.
        user = self.access.check(request.headers, dict(request.pairs))
        form = Form()
        received: TextQuery | InsertQuery | None = None
        body = request.body()
        try:
            pairs = request.pairs
            kind = request.headers.get("content-type", "")
            if request.method == "POST" and kind.startswith("multipart/form-data"):
                form = await read_form(body, kind, self.space)
                pairs = [*pairs, *form.fields.items()]
            parameters = read_parameters(pairs, request.headers, frozenset(form.files))
            reply.headers["X-ClickHouse-Query-Id"] = parameters.query_id
            received = await take_in(body, parameters.query, self.space)
            await self._run(request, user, parameters, received, form.tables(dict(pairs)), reply)
        finally:
            await body.aclose()
            if isinstance(received, InsertQuery):
                received.data.close()
            form.close()

    async def _run(
        self,
        request: Request,
        user: str,
        parameters: Parameters,
        received: TextQuery | InsertQuery,
        tables: Sequence[ExternalTable],
        reply: Reply,
    ) -> None:
        work = received if isinstance(received, InsertQuery) else read_statement(received.text)
        query = Query(parameters.query_id, user, _text(work))
        with self._counted(_kind(work), query):
            _refuse_change(request.method, work)
            victim = self._victim(work)
            if victim is not None:
                result = await kill(self.queries, victim, parameters, reply)
            else:
                with self._session(user, parameters) as session:
                    around = Surroundings(session, parameters.database, parameters.settings)
                    execution = Execution(self.queries, query, parameters, around, tables, reply)
                    async with self.queries.placed(query), self._watched(request, query, work):
                        result = await execution.run(work)
            if isinstance(work, InsertQuery):
                self.metrics.bytes.inc(work.data.size)
            self.metrics.rows.inc(result.written_rows)
            await reply.finish(result)

    def _victim(self, work: Statement | InsertQuery) -> Query | None:
        if isinstance(work, InsertQuery) or (query_id := killed_id(work)) is None:
            return None
        return self.queries.find(query_id)

    @contextmanager
    def _counted(self, kind: str, query: Query) -> Iterator[None]:
        outcome = "ok"
        try:
            yield
        except ClickHouseError as error:
            outcome = _outcome(error)
            log.warning(
                "clickhouse query failed",
                query_id=query.query_id,
                kind=kind,
                code=error.code,
                error=error.name,
                seconds=round(query.seconds, 3),
            )
            raise
        finally:
            self.metrics.queries.labels(kind, outcome).inc()
            self.metrics.seconds.labels(kind).observe(query.seconds)
            if outcome == "ok" and query.seconds > _SLOW_SECONDS:
                log.info(
                    "clickhouse query was slow",
                    query_id=query.query_id,
                    kind=kind,
                    seconds=round(query.seconds, 3),
                )

    @contextmanager
    def _session(self, user: str, parameters: Parameters) -> Iterator[Session | None]:
        if not parameters.session_id:
            yield None
            return
        session = self.sessions.take(
            user, parameters.session_id, must_exist=parameters.session_must_exist
        )
        try:
            yield session
        finally:
            self.sessions.give_back(
                user,
                parameters.session_id,
                seconds=parameters.session_seconds,
                close=parameters.close_session,
            )

    @asynccontextmanager
    async def _watched(
        self, request: Request, query: Query, work: Statement | InsertQuery
    ) -> AsyncIterator[None]:
        """A read is stopped when its client goes away; a write goes on, as on a server."""

        async def stop_when_gone() -> None:
            await request.gone()
            await self.queries.cancel(query)

        if isinstance(work, InsertQuery) or work.changes:
            yield
            return
        watch = asyncio.create_task(stop_when_gone())
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


def _kind(work: Statement | InsertQuery) -> str:
    if isinstance(work, InsertQuery) or work.verb == "INSERT":
        return "insert"
    return "select" if work.selects else "other"


def _text(work: Statement | InsertQuery) -> str:
    alone = work.insert.alone if isinstance(work, InsertQuery) else work.alone
    return alone.decode(errors="replace")


def _outcome(error: ClickHouseError) -> str:
    if error.code in _CANCELLED:
        return "cancelled"
    return "refused" if error.code in _REFUSED else "failed"


def _refuse_change(method: str, work: Statement | InsertQuery) -> None:
    if method != "POST" and (isinstance(work, InsertQuery) or work.changes):
        raise ClickHouseError(
            Code.READONLY, f"Cannot execute query in readonly mode: {method} only reads, use POST."
        )
