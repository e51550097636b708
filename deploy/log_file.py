"""What a part prints, kept on disk with a limit, its last lines at hand."""

from __future__ import annotations

from collections import deque
from pathlib import Path

MAX_BYTES = 10_000_000
KEPT = 3
TAIL_LINES = 10


class LogFile:
    """Up to KEPT files before the current one. A full disk costs lines, never the caller."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._last: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._open_line = b""
        self.lost = 0

    def write(self, output: bytes) -> None:
        *lines, self._open_line = (self._open_line + output).split(b"\n")
        self._open_line = self._open_line[-4096:]  # a part may never end its line
        self._last.extend(lines)
        try:
            if self._path.exists() and self._path.stat().st_size > self._max_bytes:
                self._rotate()
            with self._path.open("ab") as file:
                file.write(output)
        except OSError:
            self.lost += len(output)

    def _rotate(self) -> None:
        for number in range(KEPT - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if older.exists():
                older.replace(self._path.with_name(f"{self._path.name}.{number + 1}"))
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))

    def last_lines(self) -> list[str]:
        lines = [*self._last, self._open_line]
        return [line.decode(errors="replace") for line in lines if line.strip()]
