"""How a record says that it is a dead letter put into its topic again. Pure.

A replay that dies is a dead letter of its own. When that one is replayed, the headers name the
first letter of the line again: all replays of one event have one origin, and one is stored.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from streams.record_batches import Headers

TOPIC, PARTITION, EPOCH, OFFSET = (
    "replay.topic",
    "replay.partition",
    "replay.epoch",
    "replay.offset",
)
_NAMES = frozenset({TOPIC, PARTITION, EPOCH, OFFSET})

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_PARTITION, _OFFSET = re.compile(r"\d{1,9}"), re.compile(r"\d{1,18}")
_EPOCH = re.compile(r"[0-9a-z]{4,32}")


class Origin(NamedTuple):
    """The dead letter that a record is a replay of."""

    topic: str
    partition: int
    epoch: str | None
    """None where the headers do not say: the life of the partition that the replay is in."""
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def origin(headers: Headers) -> Origin | None:
    """None for a record that is no replay, or whose headers do not say of what."""
    said = {name: (value or b"").decode("latin-1") for name, value in headers if name in _NAMES}
    topic, partition, offset = said.get(TOPIC, ""), said.get(PARTITION, ""), said.get(OFFSET, "")
    if not (_TOPIC.fullmatch(topic) and _is_number(_PARTITION, partition)):
        return None
    epoch = said.get(EPOCH)
    if not _is_number(_OFFSET, offset) or not (epoch is None or _EPOCH.fullmatch(epoch)):
        return None
    return Origin(topic, int(partition), epoch, int(offset))


def replay_headers(headers: Headers, letter: Origin) -> Headers:
    """The headers of the dead letter's record, and those that make another one a replay of it."""
    of = origin(headers) or letter
    kept = [(name, value) for name, value in headers if name not in _NAMES]
    added = [
        (TOPIC, of.topic.encode()),
        (PARTITION, str(of.partition).encode()),
        (OFFSET, str(of.offset).encode()),
    ]
    if of.epoch is not None:
        added.append((EPOCH, of.epoch.encode()))
    return (*kept, *added)


def _is_number(pattern: re.Pattern[str], text: str) -> bool:
    return text.isascii() and pattern.fullmatch(text) is not None
