"""`anabranch service`: the HTTP service alone."""

from __future__ import annotations

import gc
import signal
import socket
from pathlib import Path
from typing import Annotated, Any

import structlog
import uvicorn
from cyclopts import Parameter

from service.access import load_keys
from service.app import create_app
from service.errors import CommandError
from service.logs import configure_logs
from service.settings import DEFAULT_STATE, Settings, load_settings

logger = structlog.get_logger("service")


def service(
    *,
    host: Annotated[str | None, Parameter(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, Parameter(help="The port to listen on; 0 takes a free one.")
    ] = None,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Run the HTTP service: events, health, figures, documentation, the schema registry.

    It starts whether or not Kafka and ClickHouse answer; /readyz says what it waits for. It needs
    keys (ANABRANCH_CREDENTIALS), or ANABRANCH_SERVICE__OPEN_ACCESS=true on a loopback address.
    """
    settings = load_settings(state=state, service={"host": host, "port": port})
    configure_logs(settings)
    keys = load_keys(settings)
    listener = _listen(settings)
    chosen: int = listener.getsockname()[1]
    # The registry may be this service itself, which the port tells: so the one that it got.
    own = settings.service.model_copy(update={"port": chosen})
    settings = settings.model_copy(update={"service": own})
    if keys is None:
        logger.warning("open access: every request may do everything", host=own.host)
    logger.info("listening", host=own.host, port=chosen)
    app = create_app(settings, keys)
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,  # its lines go through ours (service/logs.py)
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=round(own.shutdown_timeout_seconds),
        )
    )
    # uvicorn ends in good order and then raises the signal again: that would make an orderly end
    # look like a death to whoever watches this process.
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: None)
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """What was made by now lives as long as the process: to look through it for garbage took
        70 ms each time, in which nobody was answered."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams end first: they are open requests, for which the end would wait."""
        app: Any = self.config.app
        app.state.assigning.end_streams()
        await super().shutdown(sockets)


def _listen(settings: Settings) -> socket.socket:
    """Before anything else is started: a port that is taken is found out at once."""
    host, port = settings.service.host, settings.service.port
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The protocol is named, for asyncio sends at once (TCP_NODELAY) only where it is: without
        # it every answer on a kept connection waits 40 ms for the other side's acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise CommandError(
            f"--host {host}: {error.strerror}; name an address of this machine"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise CommandError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port (or "
            "--host)"
        ) from error
    return listener
