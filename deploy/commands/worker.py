"""`anabranch worker`: one worker, which moves events from Kafka into ClickHouse."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated

import structlog
from cyclopts import Parameter

from service.errors import CommandError
from service.logs import configure_logs
from service.settings import DEFAULT_STATE, Settings, load_settings
from streams.memory import give_memory_back, use_huge_pages
from streams.worker import Worker, WorkerError
from streams.worker_web import WorkerWeb

logger = structlog.get_logger("worker")

LISTENS_ON = "worker listens on "


def worker(
    *,
    name: Annotated[
        str | None,
        Parameter(
            help="Stays the same over restarts: the worker then keeps its place in the group."
        ),
    ] = None,
    host: Annotated[str | None, Parameter(help="The address for metrics and health.")] = None,
    port: Annotated[int | None, Parameter(help="Their port; 0 takes a free one.")] = None,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Run one worker: events from Kafka into raw rows, windows and sums by unit, exactly once.

    As many as there are partitions may run; Kafka shares the partitions out among them. It waits
    for Kafka, ClickHouse and the schema registry where they are away, and drops nothing meanwhile.
    SIGTERM applies what is intended, hands its partitions over and ends.
    """
    use_huge_pages()
    settings = load_settings(state=state, worker={"name": name, "host": host, "port": port})
    configure_logs(settings)
    give_memory_back()
    listener = _listen(settings)
    address = f"http://{settings.worker.host}:{listener.getsockname()[1]}"
    sys.stdout.write(f"{LISTENS_ON}{address}\n")
    sys.stdout.flush()
    try:
        asyncio.run(_run(settings, listener))
    except WorkerError as error:
        raise CommandError(str(error)) from error


async def _run(settings: Settings, listener: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = Worker(settings.worker, settings.kafka, settings.clickhouse, settings.registry)
    web = WorkerWeb(running, settings.worker)
    await web.start(listener)
    logger.info("worker starts", name=running.name, group=settings.worker.group)
    try:
        await running.run(stop)
    finally:
        await web.stop()


def _listen(settings: Settings) -> socket.socket:
    own = settings.worker
    try:
        return socket.create_server((own.host, own.port))
    except OSError as error:
        raise CommandError(
            f"cannot listen on {own.host}:{own.port}: {error.strerror}; choose another with --port "
            "(0 takes a free one)"
        ) from error
