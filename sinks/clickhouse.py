"""The connection to ClickHouse: the one file in the house that imports its client."""

from __future__ import annotations

from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient

from sinks.settings import ClickHouseSettings

__all__ = ["ClickHouseSettings", "connect"]


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
