"""The process of one worker: its settings, its port, its signals."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import structlog

from service.errors import CommandError
from service.logs import configure_logs
from service.settings import Settings, load_settings
from streams.memory import give_memory_back
from streams.worker import Worker, WorkerError
from streams.worker_web import WorkerWeb

logger = structlog.get_logger("worker")

LISTENS_ON = "worker listens on "


def run(name: str | None, host: str | None, port: int | None, state: Path) -> None:
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
