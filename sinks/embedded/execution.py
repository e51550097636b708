"""One query from its statement to its reply."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sinks.embedded.engine import Connection
from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.forms import ExternalTable
from sinks.embedded.intake import InsertQuery
from sinks.embedded.parameters import Parameters
from sinks.embedded.pipes import Pipe
from sinks.embedded.queries import Queries, Query, Surroundings
from sinks.embedded.replies import Reply
from sinks.embedded.results import Result
from sinks.embedded.statements import Statement

_KILL = re.compile(
    r"KILL\s+QUERY\s+(?:ON\s+CLUSTER\s+\S+\s+)?WHERE\s+query_id\s*=\s*'((?:[^'\\]|\\.)+)'"
    r"\s*(SYNC|ASYNC|TEST)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Execution:
    queries: Queries
    query: Query
    parameters: Parameters
    around: Surroundings
    tables: Sequence[ExternalTable]
    reply: Reply

    async def run(self, work: Statement | InsertQuery) -> Result:
        if isinstance(work, InsertQuery):
            return await self._insert(work)
        return await (self._select(work) if work.selects else self._other(work))

    async def _select(self, statement: Statement) -> Result:
        output_format = statement.format or self.parameters.default_format
        self.reply.expect(self.parameters, output_format)
        pipe = Pipe()
        sql = statement.into(pipe.path, output_format, self.query.mark)
        future = self._start(sql, "TabSeparated", alone=statement.alone)
        future.add_done_callback(lambda _: pipe.end_writing())
        try:
            while data := await pipe.read():
                await self.reply.write(data)
        finally:
            pipe.end_reading()
            await self._ended(future)
        return future.result()

    async def _insert(self, received: InsertQuery) -> Result:
        self.reply.expect(self.parameters, None)
        sql = received.insert.of_file(received.data.path, self.query.mark)
        future = self._start(sql, "TabSeparated", alone=received.insert.alone)
        return await self._result(future)

    async def _other(self, statement: Statement) -> Result:
        """DDL, SET, SHOW and the like: their results are small."""
        output_format = statement.format or self.parameters.default_format
        sql = statement.plain(self.query.mark)
        result = await self._result(self._start(sql, output_format, alone=statement.alone))
        shown = output_format if statement.answers or result.data else None
        self.reply.expect(self.parameters, shown)
        await self.reply.write(result.data)
        return result

    def _start(self, sql: bytes, output_format: str, *, alone: bytes) -> asyncio.Future[Result]:
        work = partial(_run, sql, output_format, self.parameters.values, self.tables, alone)
        return self.queries.run(self.query, self.around, work)

    async def _result(self, future: asyncio.Future[Result]) -> Result:
        try:
            return await asyncio.shield(future)
        finally:
            await self._ended(future)

    async def _ended(self, future: asyncio.Future[Result]) -> None:
        """The engine holds files and pipes by number: none may be closed before it is done."""
        if not future.done():
            await self.queries.cancel(self.query)
        await asyncio.wait([future])


def _run(
    sql: bytes,
    output_format: str,
    values: Mapping[str, str],
    tables: Sequence[ExternalTable],
    alone: bytes,
    connection: Connection,
) -> Result:
    """`alone` is the statement as its author knows it, for what the engine says of its syntax."""
    made: list[ExternalTable] = []
    try:
        for table in tables:
            made.append(table)
            table.make(connection)
        return connection.run(sql, output_format, values)
    except ClickHouseError as error:
        # Of the statement, not of its data nor a code that throwIf chose: those would run it twice.
        if error.code == Code.SYNTAX_ERROR and "Syntax error: failed at position" in error.message:
            # The engine quotes what follows the mistake, which here is the clause we have added:
            # the statement alone fails at the same place, before it does anything.
            _say_again(connection, alone)
        raise
    finally:
        for table in made:
            table.drop(connection)


def _say_again(connection: Connection, alone: bytes) -> None:
    try:
        connection.run(alone)
    except ClickHouseError as error:
        if error.code == Code.SYNTAX_ERROR:
            raise


def killed_id(statement: Statement) -> str | None:
    """The query id that a KILL QUERY names in the usual way."""
    found = _KILL.match(statement.text)
    return None if found is None else found[1]


async def kill(queries: Queries, victim: Query, parameters: Parameters, reply: Reply) -> Result:
    """Ours to do: the engine knows the query under another id."""
    reply.expect(parameters, "TabSeparated")
    await queries.cancel(victim)
    text = victim.text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    await reply.write(f"finished\t{victim.query_id}\t{victim.user}\t{text}\n".encode())
    return Result(result_rows=1)
