"""Makes the engine forget the tokens of inserts that it was killed in.

A table that is not replicated notes the token of an insert first and gives the new part its name
after that. Killed between the two, the engine remembers an insert whose rows are nowhere, and drops
the same insert when it is repeated, as anything repeated: the rows would be lost without a word. So
before it starts, tokens go whose part is not there, and a repeated insert is then taken for new.
"""

from __future__ import annotations

import fcntl
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

log = structlog.get_logger("sinks.embedded")

_PART = re.compile(r"(?P<partition>[^_]+)_(?P<first>\d+)_(?P<last>\d+)_\d+(_\d+)?")
_ADDED = "1"


class Part(NamedTuple):
    """Which blocks of a partition it holds: those of one insert, or of all that were merged."""

    partition: str
    first: int
    last: int


def forget_unfinished_inserts(folder: Path) -> int:
    """How many tokens of how many inserts were taken out; 0 where another engine has the folder."""
    if not folder.exists():
        return 0
    with (folder / "status").open("a") as status:
        try:
            # The engine holds the same lock while it runs.
            fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        return sum(_mend(table) for table in _tables(folder))


def orphans(log_text: str, parts: Iterable[Part]) -> list[str]:
    """The lines of tokens whose parts are not there, merged with others or by themselves."""
    there = defaultdict(list)
    for part in parts:
        there[part.partition].append(part)
    found = []
    for line in log_text.splitlines():
        operation, name, _ = line.split("\t", 2)
        noted = read_part(name)
        if operation == _ADDED and noted is not None:
            blocks = there[noted.partition]
            if not any(part.first <= noted.first and noted.last <= part.last for part in blocks):
                found.append(line)
    return found


def read_part(name: str) -> Part | None:
    """None for a folder that is no part, such as one that was not given its name yet."""
    match = _PART.fullmatch(name)
    return match and Part(match["partition"], int(match["first"]), int(match["last"]))


def _tables(folder: Path) -> Iterator[Path]:
    for logs in folder.glob("store/*/*/deduplication_logs"):
        yield logs.parent


def _mend(table: Path) -> int:
    parts = [part for entry in table.iterdir() if (part := read_part(entry.name)) is not None]
    forgotten = 0
    for path in sorted((table / "deduplication_logs").glob("deduplication_log_*.txt")):
        text = path.read_text()
        lost = set(orphans(text, parts))
        if lost:
            kept = [
                line for line in text.splitlines(keepends=True) if line.rstrip("\n") not in lost
            ]
            fresh = path.with_suffix(".new")
            fresh.write_text("".join(kept))
            fresh.replace(path)
            forgotten += len(lost)
            log.warning("forgot inserts that were cut short", table=table.name, inserts=len(lost))
    return forgotten
