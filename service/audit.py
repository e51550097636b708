"""The audit log as the service writes it: every change, every denied attempt, one chain a process.

A change is in the definition log already when its entry is made. So an entry that cannot be written
waits, is tried again for as long as the process lives, is counted, and shows in /readyz.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from fastapi import Request

from anabranch.encoding import Encoder
from anabranch.events import AuditEntry
from anabranch.fields import now_ms
from schemas.topics import AUDIT
from service.access_settings import LimitSettings
from service.audit_chain import OPEN, Chain
from service.audit_texts import line, state_text
from service.callers import Caller, actor_of
from service.event_log import EventLog, NotStoredError, OverloadError, Record
from service.metrics import ServiceMetrics
from service.rate_limits import Buckets
from service.schema_ids import SchemaIds
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable

logger = structlog.get_logger("service.audit")

__all__ = ["Audit", "AuditTopic", "actor_of"]

DENIED = "access.denied"
KEY_IN_PATH = "anabranch.key_in_path"
"""Set in the scope of a request whose path must not be written."""
_MOST_AT_ONCE = 50
_WAIT_SECONDS = 2.0
_HEADS_SECONDS = 3.0
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

Write = Callable[[Sequence[AuditEntry]], Awaitable[None]]
"""Returns when all are stored; raises NotStoredError or OverloadError when some may not be."""
ReadHeads = Callable[[], Awaitable[Mapping[str, tuple[int, str]]]]
"""The last sequence and hash of the chains there are, as ClickHouse has them."""


class AuditTopic:
    """Writes entries to Kafka."""

    def __init__(self, log: EventLog, ids: SchemaIds, timeout: float) -> None:
        self._log = log
        self._ids = ids
        self._timeout = timeout
        self._encoder: Encoder | None = None

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        if self._encoder is None:
            if self._ids.of_topic is None:
                raise NotStoredError("the schema registry has not answered yet")
            self._encoder = Encoder(AuditEntry, self._ids.of_topic[AUDIT.name])
        records = [Record(AUDIT.name, *self._encoder.encode(entry)) for entry in entries]
        await self._log.store(records, timeout=self._timeout)


class _Waiting:
    """An entry before it is stored. It becomes a link of the chain only when it is sent."""

    def __init__(self, entry: AuditEntry) -> None:
        self.entry = entry
        self.stored = asyncio.Event()


class Audit:
    def __init__(
        self,
        write: Write,
        read_heads: ReadHeads,
        metrics: ServiceMetrics,
        limits: LimitSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.problem: str | None = None
        """Why the oldest entry could not be stored at the last attempt."""
        self._write = write
        self._read_heads = read_heads
        self._metrics = metrics
        self._limits = limits or LimitSettings()
        self._sleep = sleep
        self._sources = Buckets(clock=clock)
        self._chain = Chain()
        self._queue: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._send_all(), name="audit")
        self._task.add_done_callback(_ended)

    async def stop(self, *, flush_seconds: float) -> None:
        """Before the connection to Kafka ends."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(flush_seconds):
                for waiting in tuple(self._queue):
                    await waiting.stored.wait()
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        for waiting in self._queue:
            # The log line is then all there is of it.
            self._metrics.audit_lost.labels("at_stop").inc()
            logger.error("an audit entry was not stored", **_logged(waiting.entry))

    async def check(self) -> str | None:
        """For the readiness."""
        if self._task is not None and self._task.done():
            return f"{len(self._queue)} entries wait, and what writes them has ended: see the log"
        if self.problem is None:
            return None
        return f"{len(self._queue)} entries wait for Kafka: {self.problem}"

    async def record(
        self,
        request_or_actor: Request | str,
        action: str,
        target: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        comment: str = "",
    ) -> None:
        """Call it after the change. Returns when the entry is stored, or has waited for a while;
        then it is stored as soon as that is possible. `action` is `<thing>.<verb>`."""
        if isinstance(request_or_actor, Request):
            actor = actor_of(request_or_actor)
            request_id = str(request_or_actor.scope.get("request_id") or "")
        else:
            actor, request_id = request_or_actor, ""
        entry = _entry(actor, action, target, before, after, request_id, comment)
        waiting = self._add(entry)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                await waiting.stored.wait()

    def denied(
        self, request: Request, reason: str, needed: str, actor: str | None, caller: Caller | None
    ) -> None:
        """An attempt that was refused. Nobody fills the log: so many a minute of each source."""
        address = request.client.host if request.client else "unknown"
        source = caller.id if caller else f"address:{address}"
        # The source first: one that is over its own limit takes nothing from the others.
        for key, most in (
            (source, self._limits.denied_per_minute),
            ("all", self._limits.denied_per_minute_of_all),
        ):
            if not self._sources.take(key, most / 60, most).allowed:
                self._metrics.audit_lost.labels("over_limit").inc()
                return
        what = {
            "reason": reason,
            "needs": needed,
            "method": request.method,
            "address": address,
            "role": caller.role.value if caller else None,
        }
        path = request.scope["path"]
        if request.scope.get(KEY_IN_PATH):
            path = getattr(request.scope.get("route"), "path", "")
        request_id = str(request.scope.get("request_id") or "")
        self._add(_entry(actor or "unknown", DENIED, path, None, what, request_id, ""))

    def _add(self, entry: AuditEntry) -> _Waiting:
        waiting = _Waiting(entry)
        self._queue.append(waiting)
        self._metrics.audit_waiting.set(len(self._queue))
        self._filled.set()
        return waiting

    async def _send_all(self) -> None:
        sealed: list[AuditEntry] = []  # of the first entries in the queue
        failures = 0
        while True:
            await self._filled.wait()
            if not self._chain.head.sequence:
                await self._open()
            if not sealed:
                some = [self._queue[n] for n in range(min(len(self._queue), _MOST_AT_ONCE))]
                sealed = [self._chain.seal(waiting.entry) for waiting in some]
            try:
                await self._write(sealed)
            except (NotStoredError, OverloadError) as error:
                # Some may be stored: they come again just as they are, and count once.
                self._metrics.audit_failures.inc()
                if self.problem is None:
                    logger.warning("audit entries wait", problem=str(error))
                self.problem = str(error)
                await self._sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                failures += 1
                continue
            failures, self.problem = 0, None
            for _ in sealed:
                self._queue.popleft().stored.set()
            self._metrics.audit_entries.inc(len(sealed))
            self._metrics.audit_waiting.set(len(self._queue))
            sealed = []
            if not self._queue:
                self._filled.clear()

    async def _open(self) -> None:
        heads: dict[str, Any] = {}
        try:
            async with asyncio.timeout(_HEADS_SECONDS):
                found = await self._read_heads()
            # Not by the name `hash`, which would be redacted as that of a secret.
            heads["heads"] = {chain: list(head) for chain, head in found.items()}
        except (ClickHouseUnavailable, ClickHouseRefused, TimeoutError) as error:
            heads["heads_unknown"] = str(error) or type(error).__name__
            logger.warning("the audit chain opens without the heads of others", error=str(error))
        entry = _entry("service", OPEN, self._chain.name, None, heads, "", "")
        self._queue.appendleft(_Waiting(entry))


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        # A bug; the service goes on, and /readyz says that its audit log does not.
        logger.error("the audit log is not written any more", exc_info=error)


def _entry(
    actor: str,
    action: str,
    target: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    request_id: str,
    comment: str,
) -> AuditEntry:
    now = now_ms()
    entry = AuditEntry(
        ts=now,
        actor=line(actor, 256) or "unknown",
        action=action,
        target=line(target, 256) or "/",
        before=state_text(before),
        after=state_text(after),
        request_id=line(request_id, 256),
        comment=line(comment, 2_000, breaks=True),
        sequence=0,
    )
    problem = entry.problem(now)
    if problem is not None:
        raise ValueError(f"this is no audit entry: {problem}")
    return entry


def _logged(entry: AuditEntry) -> dict[str, Any]:
    return {name: value for name, value in entry.avro().items() if value not in {"", None, 0}}
