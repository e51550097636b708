"""Is the process alive, what does it wait for, and what are its figures?

The checks run in the background, so that a probe is answered at once however long a dependency
hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Query, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from service.access import Access, Permission, needs
from service.metrics import ServiceMetrics

logger = structlog.get_logger("service.health")

CHECK_SECONDS = 2.0
CHECK_TIMEOUT_SECONDS = 3.0

# Answers None when the dependency is ready, else why it is not; raises only by a bug.
Check = Callable[[], Awaitable[str | None]]


class DependencyState(BaseModel):
    ready: bool
    reason: str | None = Field(description="Why it is not ready; null when it is.")
    checked_seconds_ago: float | None = Field(description="Null before the first check ended.")


class ReadinessReport(BaseModel):
    ready: bool = Field(description="True when every dependency asked for is ready.")
    dependencies: dict[str, DependencyState]
    warnings: dict[str, str] = Field(
        description="What works less well than it should, by its name. It makes nobody unready."
    )


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


@dataclass(frozen=True, slots=True)
class _Finding:
    problem: str | None
    at: float


class Readiness:
    def __init__(
        self,
        checks: Mapping[str, Check],
        metrics: ServiceMetrics,
        *,
        warnings: Mapping[str, Callable[[], str | None]] | None = None,
    ) -> None:
        """`warnings` are asked at each report: they answer at once."""
        self._checks = checks
        self._warnings = warnings or {}
        self._metrics = metrics
        self._findings: dict[str, _Finding] = {}
        self._tasks: list[asyncio.Task[None]] = []
        for name in checks:
            metrics.ready.labels(name).set(0)

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._watch(name, check), name=f"readiness-{name}")
            for name, check in self._checks.items()
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def report(self, names: list[str] | None = None) -> ReadinessReport:
        now = time.monotonic()
        states = {}
        for name in names or self._checks:
            found = self._findings.get(name)
            states[name] = DependencyState(
                ready=found is not None and found.problem is None,
                reason=found.problem if found else "not checked yet",
                checked_seconds_ago=round(now - found.at, 1) if found else None,
            )
        asked = {name: warning() for name, warning in self._warnings.items()}
        return ReadinessReport(
            ready=all(state.ready for state in states.values()),
            dependencies=states,
            warnings={name: warning for name, warning in asked.items() if warning is not None},
        )

    async def _watch(self, name: str, check: Check) -> None:
        while True:
            try:
                async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                    problem = await check()
            except TimeoutError:
                problem = f"no answer within {CHECK_TIMEOUT_SECONDS:g} s"
            before = self._findings.get(name)
            if before is None or before.problem != problem:
                logger.info("dependency", name=name, ready=problem is None, reason=problem)
            self._findings[name] = _Finding(problem, time.monotonic())
            self._metrics.ready.labels(name).set(problem is None)
            await asyncio.sleep(CHECK_SECONDS)


def health_routes(access: Access, readiness: Readiness, metrics: ServiceMetrics) -> APIRouter:
    router = access.router(tags=["health"])

    @router.get("/healthz", response_model=Alive)
    @needs(Permission.PUBLIC)
    async def healthz() -> Alive:
        """The process lives and its event loop turns. Says nothing of what it depends on."""
        return Alive()

    @router.get(
        "/readyz",
        response_model=ReadinessReport,
        responses={503: {"model": ReadinessReport, "description": "A dependency is not ready."}},
    )
    @needs(Permission.PUBLIC)
    async def readyz(
        response: Response,
        only: Annotated[
            list[Literal["kafka", "topics", "schemas", "clickhouse", "audit", "definitions"]]
            | None,
            Query(
                description="Judge these alone; a pod that only takes in events needs no more "
                "than kafka, topics and schemas."
            ),
        ] = None,
    ) -> ReadinessReport:
        """Each dependency by name, with the reason where it is not ready; 503 when any is not."""
        report = readiness.report(list(only) if only else None)
        response.status_code = 200 if report.ready else 503
        return report

    @router.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    @needs(Permission.PUBLIC)
    async def figures() -> Response:
        """Everything that Prometheus scrapes; each metric's help text says what it counts."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
