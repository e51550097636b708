"""The ASGI application: its life, and the paths that are no query."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import structlog
from prometheus_client import generate_latest

from sinks.embedded.access import Access
from sinks.embedded.engine import Engine
from sinks.embedded.errors import ClickHouseError, Code
from sinks.embedded.exchanges import Exchanges
from sinks.embedded.metrics import Metrics
from sinks.embedded.places import Places
from sinks.embedded.queries import Queries
from sinks.embedded.replies import Reply, Send
from sinks.embedded.requests import ClientGone, Message, Receive, Request
from sinks.embedded.sessions import Sessions
from sinks.embedded.spool import SpoolSpace

log = structlog.get_logger()

_PATHS = frozenset({"/", "/query"})
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Limits(NamedTuple):
    threads: int
    queue: int
    queue_seconds: float
    query_seconds: float  # max_execution_time of a query that sets none
    memory_bytes: int  # of the engine
    spool_bytes: int  # of bodies and results that wait in memory; beyond it they go to the disk


class Server:
    def __init__(self, folder: Path, username: str, password: str | None, limits: Limits) -> None:
        self._engine = Engine(folder / "engine", limits.memory_bytes)
        waiting = folder / "waiting"
        waiting.mkdir(exist_ok=True)
        self._space = SpoolSpace(waiting, limits.spool_bytes)
        self._sessions = Sessions()
        places = Places(limits.threads, limits.queue, limits.queue_seconds)
        defaults = {"implicit_select": "0", "max_execution_time": str(limits.query_seconds)}
        self._queries = Queries(self._engine, places, defaults)
        self._metrics = Metrics(running=lambda: places.running, waiting=lambda: places.waiting)
        self._exchanges = Exchanges(
            Access(username, password),
            self._space,
            self._queries,
            self._sessions,
            self._metrics,
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(Request(scope, receive), send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._queries.close()
        self._sessions.close()
        self._engine.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request, send: Send) -> None:
        headers = {
            "X-ClickHouse-Server-Display-Name": self._engine.host,
            "X-ClickHouse-Timezone": self._engine.timezone,
        }
        reply = Reply(send, self._space, headers, request.headers.get("accept-encoding", ""))
        try:
            if not await self._plain(request, reply):
                await self._exchanges.answer(request, reply)
        except ClickHouseError as error:
            await reply.fail(error)
        except ClientGone:
            log.info("client went away before its request was whole")
        except Exception:  # a bug of ours: a client must see it as an error of ClickHouse, too
            log.exception("a request failed")
            await reply.fail(
                ClickHouseError(Code.UNKNOWN_EXCEPTION, "Internal error; see the log.")
            )
        finally:
            reply.close()

    async def _plain(self, request: Request, reply: Reply) -> bool:
        reply.headers["Content-Type"] = "text/plain; charset=UTF-8"
        if request.method == "OPTIONS":
            await reply.whole(204, b"")
        elif request.method not in ("GET", "HEAD", "POST"):
            await reply.whole(405, b"GET, HEAD, POST and OPTIONS are served.\n")
        elif request.path in ("/ping", "/replicas_status"):
            await reply.whole(200, b"Ok.\n")
        elif request.path == "/metrics":
            reply.headers["Content-Type"] = _METRICS_TYPE
            await reply.whole(200, generate_latest(self._metrics.registry))
        elif request.path not in _PATHS:
            told = f"There is no handle {request.path}\n\nUse / or /ping for health checks.\n"
            await reply.whole(404, told.encode())
        elif not request.asks:
            await reply.whole(200, b"Ok.\n")
        else:
            return False
        return True
