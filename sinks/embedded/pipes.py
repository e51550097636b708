"""The engine writes a result into a pipe and the event loop reads it: memory stays bounded, and a
slow client slows the query down."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os

_READ_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20


class Pipe:
    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            # Refused where the user's pipes take too much already; the usual 64 KB do as well.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._write_end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.path = f"/dev/fd/{self._write_end}"

    def end_writing(self) -> None:
        """After the engine has closed its own: what is left can be read, then comes the end."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        while True:
            try:
                return os.read(self._read_end, _READ_BYTES)
            except BlockingIOError:
                await self._readable()

    def end_reading(self) -> None:
        """The engine's writes fail from now on, rather than wait for a reader."""
        if self._read_end >= 0:
            os.close(self._read_end)
            self._read_end = -1

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(self._read_end, wake)
        try:
            await ready
        finally:
            loop.remove_reader(self._read_end)
