"""chDB's engine: one a process, one folder, and a connection for each query.

A connection costs a tenth of a millisecond and carries its own settings, database and temporary
tables; a new one for every request is what keeps them from leaking into the next.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chdb

from sinks.embedded.errors import ClickHouseError, Code, from_engine
from sinks.embedded.quoting import identifier, quoted
from sinks.embedded.results import Result
from sinks.embedded.unfinished_inserts import forget_unfinished_inserts

# The engine shares the machine with all the rest: its merges yield to whoever wants a core.
_MERGES_NICE = 10
_WORDS_LOST = (
    "Code: 62. DB::Exception: The query failed, and holds bytes that are no UTF-8, so that the "
    "engine's own words cannot be shown. (SYNTAX_ERROR)"
)


class EngineUnavailableError(Exception):
    """The engine did not start; the text says what to do."""


class Connection:
    """Used by one thread at a time."""

    def __init__(self, path: str) -> None:
        self._chdb: Any = chdb.connect(path)

    def run(
        self,
        sql: str | bytes,
        output_format: str = "TabSeparated",
        values: Mapping[str, str] | None = None,
    ) -> Result:
        try:
            found = self._chdb.query(sql, output_format, params=dict(values or {}))
        except RuntimeError as error:
            # Some Pythons lose the words of an error that repeats bytes of the query.
            raise from_engine(str(error) or _WORDS_LOST) from None
        except UnicodeDecodeError as error:  # of an error that repeats bytes of the query
            raise from_engine(error.object.decode(errors="replace")) from None
        if not sql or found is None:
            return Result()
        return Result(
            data=found.bytes(),
            read_rows=found.storage_rows_read(),
            read_bytes=found.storage_bytes_read(),
            written_rows=found.rows_written(),
            written_bytes=found.bytes_written(),
            result_rows=found.rows_read(),
            elapsed_ns=int(found.elapsed() * 1e9),
        )

    def set(self, settings: Mapping[str, str]) -> None:
        if settings:
            self.run("SET " + ", ".join(f"{name}={quoted(v)}" for name, v in settings.items()))

    def use(self, database: str) -> None:
        self.run(f"USE {identifier(database)}")

    def close(self) -> None:
        self._chdb.close()


class Engine:
    def __init__(self, folder: Path, memory_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = str(folder.resolve())
        forget_unfinished_inserts(folder)
        self._mending = threading.Lock()
        try:
            # The first connection starts the engine, and the last one closed ends it.
            self._first = Connection(
                f"{self._path}?max_server_memory_usage={memory_bytes}"
                f"&os_threads_nice_value_merge_mutate={_MERGES_NICE}"
            )
        except RuntimeError as error:
            raise EngineUnavailableError(
                f"the ClickHouse engine cannot use {self._path}: {error}. Another process may be"
                " using it: stop that one, or choose another folder with --state"
            ) from error
        told = self._first.run("SELECT version(), timezone(), hostName()").data.decode()
        self.version, self.timezone, self.host = told.rstrip("\n").split("\t")

    def connect(self) -> Connection:
        try:
            return self._connect()
        except ClickHouseError as error:
            if error.code != Code.UNKNOWN_DATABASE:
                raise
        # Every connection begins in `default`: once it is dropped, nobody could make it again.
        with self._mending:
            self._first.run("CREATE DATABASE IF NOT EXISTS default")
        return self._connect()

    def _connect(self) -> Connection:
        try:
            return Connection(self._path)
        except RuntimeError as error:
            raise from_engine(str(error)) from error

    def kill(self, mark: str) -> None:
        """Stop the running query that carries this mark in its text, if there is one."""
        connection = self.connect()
        try:
            connection.run(
                f"KILL QUERY WHERE position(query, {quoted(mark)}) > 0"
                " AND query_id != queryID() ASYNC"
            )
        except ClickHouseError:
            return  # it ended by itself in the meantime
        finally:
            connection.close()

    def close(self) -> None:
        self._first.close()
