"""The connection to ClickHouse: the one file in the house that imports its client.

Its errors, and who handles each:

* ClickHouseUnavailable   nothing answered, or it is overloaded -> trying again may succeed
* ClickHouseRefused       it answered no, with a code           -> a person or the caller decides
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import Error, ProgrammingError

from sinks.settings import ClickHouseSettings

__all__ = [
    "AsyncClient",
    "ClickHouseRefused",
    "ClickHouseSettings",
    "ClickHouseUnavailable",
    "LastingClient",
    "connect",
    "connected",
    "typed_errors",
]

TABLE_ALREADY_EXISTS = 57
UNKNOWN_TABLE = 60
UNKNOWN_DATABASE = 81


class ClickHouseUnavailable(Exception):  # noqa: N818  # the state it is in
    """Nothing answered at the address."""


class ClickHouseRefused(Exception):  # noqa: N818  # what it did
    """ClickHouse answered with an error."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def typed_errors(settings: ClickHouseSettings) -> Iterator[None]:
    try:
        yield
    except Error as error:
        code = error.code
        if code is None:
            if isinstance(error, ProgrammingError):  # the client was used wrongly: a bug of ours
                raise
            raise ClickHouseUnavailable(
                f"ClickHouse at {settings.url} does not answer: {error}"
            ) from error
        raise ClickHouseRefused(f"ClickHouse at {settings.url} refused: {error}", code) from error
    except (OSError, TimeoutError) as error:
        raise ClickHouseUnavailable(
            f"ClickHouse at {settings.url} does not answer: {type(error).__name__} {error}"
        ) from error


@asynccontextmanager
async def connected(
    settings: ClickHouseSettings, *, database: str | None = None
) -> AsyncIterator[AsyncClient]:
    """A client for the block, and typed errors for everything in it."""
    with typed_errors(settings):
        client = await connect(settings, database=database)
        try:
            yield client
        finally:
            await client.close()


async def connect(settings: ClickHouseSettings, *, database: str | None = None) -> AsyncClient:
    """A client of its own pool; the caller closes it. `database=""` connects without one."""
    address = urlsplit(settings.url)
    return await clickhouse_connect.get_async_client(
        host=address.hostname or "127.0.0.1",
        port=address.port or (8443 if address.scheme == "https" else 8123),
        secure=address.scheme == "https",
        username=settings.username,
        password=settings.password.get_secret_value() if settings.password else "",
        database=settings.database if database is None else database,
        autogenerate_session_id=False,  # a session is a lock: two queries would wait for each other
        connect_timeout=5,
        send_receive_timeout=settings.timeout_seconds,
    )


class LastingClient:
    """For as long as its owner lives: connected by whoever asks first, once for all."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def get(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await connect(self._settings)
            return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
