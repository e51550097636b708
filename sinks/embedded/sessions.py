"""Sessions: a connection that outlives its request, found again by the id that the client chose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sinks.embedded.engine import Connection, Engine
from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.quoting import quoted

_MOST = 1000


@dataclass(slots=True)
class Session:
    connection: Connection | None = None  # made by the thread that first uses it
    locked: bool = False
    expiry: asyncio.TimerHandle | None = None


class Sessions:
    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def take(self, user: str, session_id: str, *, must_exist: bool) -> Session:
        """The session, locked until it is given back: a second query in it is refused."""
        session = self._open.get((user, session_id))
        if session is None:
            if must_exist:
                raise ClickHouseError(Code.SESSION_NOT_FOUND, f"Session {session_id} not found.")
            if len(self._open) >= _MOST:
                raise ClickHouseError(
                    Code.TOO_MANY_SIMULTANEOUS_QUERIES, f"Too many sessions: {_MOST} are open."
                )
            session = self._open[user, session_id] = Session()
        if session.locked:
            raise ClickHouseError(
                Code.SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client."
            )
        session.locked = True
        if session.expiry is not None:
            session.expiry.cancel()
        return session

    def give_back(self, user: str, session_id: str, *, seconds: int, close: bool) -> None:
        session = self._open[user, session_id]
        session.locked = False
        if close or seconds == 0:
            self._end(user, session_id)
        else:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(seconds, self._end, user, session_id)

    def close(self) -> None:
        for user, session_id in tuple(self._open):
            self._end(user, session_id)

    def _end(self, user: str, session_id: str) -> None:
        session = self._open.pop((user, session_id))
        if session.expiry is not None:
            session.expiry.cancel()
        if session.connection is not None:
            session.connection.close()


@contextmanager
def prepared(
    engine: Engine,
    session: Session | None,
    *,
    database: str,
    defaults: Mapping[str, str],
    settings: Mapping[str, str],
) -> Iterator[Connection]:
    """A connection with this request's database and settings, which end with the request."""
    if session is None:
        connection = engine.connect()
        try:
            connection.set({**defaults, **settings})
            if database:
                connection.use(database)
            yield connection
        finally:
            connection.close()
        return
    if session.connection is None:
        session.connection = engine.connect()
        session.connection.set(defaults)
    connection = session.connection
    before = _state(connection, settings) if settings or database else None
    try:
        connection.set(settings)
        if database:
            connection.use(database)
        yield connection
    finally:
        if before is not None:
            connection.use(before[0])
            connection.set(before[1])


def _state(connection: Connection, names: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """What a session has set itself, to be put back after a request's own."""
    listed = ", ".join(quoted(name) for name in names) or "''"
    changed = f"SELECT name, value FROM system.settings WHERE name IN ({listed})"  # noqa: S608
    found = connection.run(
        f"SELECT currentDatabase() AS name, '' AS value UNION ALL {changed}", "RowBinary"
    )
    fields = list(_strings(found.data))
    pairs = list(zip(fields[::2], fields[1::2], strict=True))
    return pairs[0][0], dict(pairs[1:])


def _strings(data: bytes) -> Iterator[str]:
    """RowBinary strings: a length as a varint, then the bytes."""
    at = 0
    while at < len(data):
        size = shift = 0
        while True:
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield data[at : at + size].decode()
        at += size
