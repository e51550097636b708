"""What a worker answers over HTTP: /metrics, /healthz and /readyz."""

from __future__ import annotations

import socket

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.settings import WorkerSettings
from streams.worker import Worker


class WorkerWeb:
    def __init__(self, worker: Worker, settings: WorkerSettings) -> None:
        self._worker = worker
        self._settings = settings
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, listener: socket.socket) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        """Everything that Prometheus scrapes."""
        self._problems()
        body = generate_latest(self._worker.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        """Red when records wait, all dependencies answer and still nothing is applied: restart."""
        stalled = self._worker.stalled_seconds
        alive = stalled <= self._settings.stall_seconds
        return web.json_response(
            {"status": "alive" if alive else "stalled", "stalled_seconds": round(stalled, 1)},
            status=200 if alive else 503,
        )

    async def _readyz(self, _: web.Request) -> web.Response:
        """Each dependency by name, with the reason where it is not ready."""
        problems = self._problems()
        ready = all(problem is None for problem in problems.values())
        dependencies = {
            name: {"ready": problem is None, "reason": problem}
            for name, problem in problems.items()
        }
        return web.json_response(
            {
                "ready": ready,
                "dependencies": dependencies,
                "partitions": self._worker.shown_partitions(),
            },
            status=200 if ready else 503,
        )

    def _problems(self) -> dict[str, str | None]:
        problems = self._worker.problems()
        for name, problem in problems.items():
            self._worker.metrics.ready.labels(name).set(problem is None)
        return problems
