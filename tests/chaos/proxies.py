"""What lies between a worker and its stores, and can be broken: two proxies on a thread."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Coroutine
from typing import Any

import aiohttp
from aiohttp import web

from deploy.ports import choose_port

_CHUNK = 1 << 16


class ProxyThread:
    """An event loop of its own, so that proxies go on while the harness waits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class KafkaProxy:
    """Passes bytes on. `cut` ends every connection and takes none; `hold` keeps them and moves
    nothing, as a network does that swallows packets."""

    def __init__(self, thread: ProxyThread) -> None:
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self._thread = thread
        self._open = asyncio.Event()
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def start(self, target_port: int) -> None:
        self._target_port = target_port
        self._thread.run(self._start())

    def stop(self) -> None:
        self._thread.run(self._stop())

    def cut(self) -> None:
        self._is_cut = True
        self._thread.run(self._end_connections())

    def hold(self) -> None:
        self._thread.loop.call_soon_threadsafe(self._open.clear)

    def heal(self) -> None:
        self._is_cut = False
        self._thread.loop.call_soon_threadsafe(self._open.set)

    async def _start(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._end_connections()

    async def _end_connections(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            if self._is_cut:
                return
            back, forth = await asyncio.open_connection("127.0.0.1", self._target_port)
            ends.append(forth)
            halves = {
                asyncio.ensure_future(self._pump(reader, forth)),
                asyncio.ensure_future(self._pump(back, writer)),
            }
            try:
                await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for half in halves:
                    half.cancel()
                await asyncio.gather(*halves, return_exceptions=True)
        except OSError:
            pass  # the broker is away: the worker sees its connection end
        finally:
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._open.wait()
            writer.write(data)
            await writer.drain()


class ClickHouseProxy:
    """Passes requests on, late, not at all, or answers in ClickHouse's place."""

    def __init__(self, thread: ProxyThread) -> None:
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = thread
        self.heal()

    def heal(self) -> None:
        self.delay_seconds = 0.0
        """Before a request is passed on."""
        self.delay_answer_seconds = 0.0
        """After ClickHouse did what was asked, before the worker hears of it."""
        self.refusing_code: int | None = None
        """Every insert gets this error of ClickHouse."""
        self.loses_answers = False
        """Inserts are done, and the connection ends without a word."""
        self.is_cut = False

    def start(self, target: str) -> None:
        self._target = target
        self._thread.run(self._start())

    def stop(self) -> None:
        self._thread.run(self._stop())

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), auto_decompress=False
        )
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        await asyncio.sleep(self.delay_seconds)
        is_insert = "insert_deduplication_token" in request.query_string
        if self.is_cut:
            return self._broken(request)
        if is_insert and (code := self.refusing_code) is not None:
            return web.Response(
                status=500,
                headers={"X-ClickHouse-Exception-Code": str(code)},
                text=f"Code: {code}. DB::Exception: refused by the harness. (CHAOS)\n",
            )
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"host", "content-length", "transfer-encoding", "connection"}
        }
        try:
            async with self._session.request(
                request.method,
                f"{self._target}{request.path_qs}",
                headers=headers,
                data=io.BytesIO(body),
            ) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, OSError):
            return self._broken(request)
        await asyncio.sleep(self.delay_answer_seconds)
        if self._loses_answer(is_insert):
            return self._broken(request)
        kept = {
            name: value
            for name, value in answer.headers.items()
            if name.lower().startswith("x-clickhouse")
            or name.lower() in {"content-type", "content-encoding"}
        }
        return web.Response(status=answer.status, headers=kept, body=data)

    def _loses_answer(self, is_insert: bool) -> bool:
        return self.is_cut or (is_insert and self.loses_answers)

    def _broken(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)
