"""Bodies and results that wait: in memory-backed files, and beyond a limit on the disk.

The files have no name, so nothing is left over when the process is killed; the engine opens them
by their descriptor.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from sinks.embedded.errors import from_disk

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # no name in it is ever used
_COPY_BYTES = 1 << 20


class SpoolSpace:
    """How much memory all waiting bodies and results may take together."""

    def __init__(self, disk: Path, memory_bytes: int) -> None:
        self.disk = disk
        self.memory = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
        self.free_bytes = memory_bytes

    def new(self) -> Spool:
        return Spool(self)


class Spool:
    def __init__(self, space: SpoolSpace) -> None:
        self._space = space
        self._in_memory = space.memory is not None
        self._held = 0
        self.size = 0
        self._file: IO[bytes] = self._open()

    @property
    def path(self) -> str:
        """Opened anew it starts at the beginning, whatever was written here."""
        self._file.flush()
        return f"/dev/fd/{self._file.fileno()}"

    def write(self, data: bytes | memoryview) -> None:
        if self._in_memory:
            if self._space.free_bytes < len(data):
                self._move_to_disk()
            else:
                self._space.free_bytes -= len(data)
                self._held += len(data)
        try:
            self._write_all(data)
        except OSError as error:
            if not self._in_memory:
                raise from_disk(error, str(self._space.disk)) from error
            # A container's /dev/shm can be far smaller than the limit says.
            self._file.truncate(self.size)
            self._move_to_disk()
            self._write_all(data)
        self.size += len(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def rewind(self) -> None:
        self._file.seek(0)

    def close(self) -> None:
        self._file.close()
        self._give_back()

    def _open(self) -> IO[bytes]:
        folder = self._space.memory if self._in_memory else self._space.disk
        # Without a buffer, so that a failed write leaves none of its bytes for later.
        return tempfile.TemporaryFile(dir=folder, buffering=0)

    def _write_all(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _move_to_disk(self) -> None:
        in_memory = self._file
        self._in_memory = False
        try:
            self._file = self._open()
            in_memory.seek(0)
            shutil.copyfileobj(in_memory, self._file, _COPY_BYTES)
        except OSError as error:
            raise from_disk(error, str(self._space.disk)) from error
        finally:
            in_memory.close()
            self._give_back()

    def _give_back(self) -> None:
        self._space.free_bytes += self._held
        self._held = 0
