"""How dead letters look. Nothing that stands in one can write to the terminal."""

from __future__ import annotations

import base64
import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.commands.tail import printable
from sinks.dead_letters import Body, DeadLetter, Mark

_BYTES_A_LINE = 16
_WIDE = 1_000


def console() -> Console:
    """Rows are not folded for a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def table(*columns: str) -> Table:
    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def line(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def time_of(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable(value: bytes | None) -> str:
    return "none" if value is None else value.decode(errors="backslashreplace")


def as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": str(letter.place),
        **letter.place._asdict(),
        "epoch": letter.epoch,
        "reason": letter.reason,
        "detail": letter.detail,
        "value_bytes": letter.value_bytes,
        "schema_id": letter.schema_id,
        "timestamp": time_of(letter.timestamp),
        "died_at": time_of(letter.died_at),
        "worker": letter.worker,
        "worker_version": letter.worker_version,
        "marks": [_mark_as_json(mark) for mark in letter.marks],
    }


def body_as_json(body: Body) -> dict[str, Any]:
    """The bytes whole, in base64."""
    return {
        "key": _base64(body.key),
        "value": _base64(body.value),
        "headers": [
            {"name": name.encode("utf-8", "backslashreplace").decode(), "value": _base64(value)}
            for name, value in body.headers
        ],
    }


def hex_lines(value: bytes, most: int) -> list[str]:
    """As `hexdump -C` has them; of a long value the first so many bytes."""
    lines = []
    for at in range(0, min(len(value), most), _BYTES_A_LINE):
        part = value[at : min(at + _BYTES_A_LINE, most)]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        lines.append(f"{at:08x}  {part.hex(' '):<47}  |{text}|")
    if len(value) > most:
        lines.append(f"and {len(value) - most:,} bytes more; --json has them all")
    return lines


def _mark_as_json(mark: Mark) -> dict[str, Any]:
    return {**mark._asdict(), "marked_at": time_of(mark.marked_at)}


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
