"""How far is what can be seen behind what Kafka holds?

A partition's watermark is the highest event time applied, or the time up to which all is applied
that had come to Kafka by then, if that is later: of a partition with one event an hour, the last
one says little. A topic's is the lowest of those partitions that still have records to apply: one
without any is idle, and holds nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one partition stands."""

    watermark: datetime | None
    """None before its first event."""
    pending: int | None
    """Records in Kafka that are not applied; None where Kafka does not say."""


@dataclass(frozen=True, slots=True)
class Freshness:
    watermark: datetime | None
    """What happened up to here, and came in order, can be seen. None before the first event."""
    pending: int | None
    idle_partitions: int
    lag_seconds: float | None
    """0 when nothing is pending. None where neither Kafka nor an event tells."""


def reached(next_offset: int, firsts: Mapping[datetime, int]) -> datetime | None:
    """The latest of the given times of which all that came before is applied.

    `firsts` has, for each, the offset of the first record that came to Kafka at that time or later.
    """
    return max((at for at, first in firsts.items() if first <= next_offset), default=None)


def freshness(partitions: Iterable[Progress], now: datetime) -> Freshness:
    known = list(partitions)
    busy = [partition for partition in known if partition.pending != 0]
    told = [partition.pending for partition in known if partition.pending is not None]
    pending = sum(told) if len(told) == len(known) else None
    watermark = _lowest(busy) if busy else _highest(known)
    return Freshness(
        watermark=watermark,
        pending=pending,
        idle_partitions=len(known) - len(busy),
        lag_seconds=_lag(watermark, pending, now),
    )


def _lowest(partitions: Iterable[Progress]) -> datetime | None:
    """One that has applied nothing yet holds back all that could be said."""
    marks = [partition.watermark for partition in partitions]
    present = [mark for mark in marks if mark is not None]
    return min(present) if present and len(present) == len(marks) else None


def _highest(partitions: Iterable[Progress]) -> datetime | None:
    return max((p.watermark for p in partitions if p.watermark is not None), default=None)


def _lag(watermark: datetime | None, pending: int | None, now: datetime) -> float | None:
    if pending == 0:
        return 0.0
    return None if watermark is None else max(0.0, (now - watermark).total_seconds())
