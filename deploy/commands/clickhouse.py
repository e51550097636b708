"""`anabranch clickhouse`: the embedded ClickHouse alone, in the foreground."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from cyclopts import Parameter

from deploy.ports import choose_port
from service.errors import CommandError
from service.logs import configure_logs
from service.settings import DEFAULT_STATE, load_settings
from sinks.embedded.engine import EngineUnavailableError
from sinks.embedded.server import Limits, Server

_STOP_SECONDS = 20
# Longer than clients keep an idle connection: one that closes while a request is on its way to it
# looks like a crash to the client.
_KEEP_ALIVE_SECONDS = 120
_MB = 1 << 20


def clickhouse(
    *,
    state: Annotated[Path, Parameter(help="The folder that keeps the data.")] = DEFAULT_STATE,
    port: Annotated[int, Parameter(help="The port; 0 takes a free one.")] = 8123,
    host: Annotated[str, Parameter(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Run the ClickHouse engine behind its HTTP protocol until it is stopped."""
    port = choose_port(host, port, flag="--port")
    settings = load_settings(state=state)
    embedded, account = settings.embedded, settings.clickhouse
    limits = Limits(
        threads=embedded.clickhouse_threads,
        queue=embedded.clickhouse_queue,
        queue_seconds=30,
        query_seconds=300,
        memory_bytes=embedded.clickhouse_memory_mb * _MB,
        spool_bytes=embedded.clickhouse_memory_mb * _MB // 4,
    )
    configure_logs(settings)
    password = account.password.get_secret_value() if account.password else None
    if not password and not _is_loopback(host):
        raise CommandError(
            f"a ClickHouse without a password would be open to everybody who reaches {host}; set"
            " ANABRANCH_CLICKHOUSE__PASSWORD, or listen on 127.0.0.1"
        )
    try:
        server = Server(state / "clickhouse", account.username, password, limits)
    except EngineUnavailableError as error:
        raise CommandError(str(error)) from error
    sys.stdout.write(f"clickhouse listens on http://{host}:{port}\n")
    sys.stdout.flush()
    uvicorn.run(
        server,
        host=host,
        port=port,
        http="httptools",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
