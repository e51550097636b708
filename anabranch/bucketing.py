"""Where a unit falls: GrowthBook's published hash, bit for bit, and the ranges of variations.

The seed comes into the hash so that experiments are independent: without it the same first half of
all units would be in every treatment. Changing anything here moves the units of every running
experiment; golden values in the tests, made by another implementation, hold it fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

HashVersion = Literal[1, 2]

WHOLE = 10_000
"""Weights, coverage and shares are parts of this, so that they add up exactly."""

_OFFSET_BASIS = 0x811C9DC5
_PRIME = 0x01000193
_MASK = 0xFFFFFFFF
_KEPT = 512


def fnv1a(text: str, state: int = _OFFSET_BASIS) -> int:
    """FNV-1a of 32 bits over UTF-16 code units, as JavaScript's charCodeAt gives them.

    `state` is what went before: fnv1a(b, fnv1a(a)) is fnv1a(a + b).
    """
    if text.isascii():
        for byte in text.encode():
            state = ((state ^ byte) * _PRIME) & _MASK
        return state
    units = memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H")
    for unit in units:
        state = ((state ^ unit) * _PRIME) & _MASK
    return state


class Bucketing:
    """The hash of one seed, with what does not depend on the unit done once.

    The hash is the dearest part of a decision, and units come again and again: the buckets of the
    last ones are kept, up to 1,024 of a seed, about 0.13 MB. Threads may share it: at
    worst a bucket is found twice.
    """

    __slots__ = ("_earlier", "_recent", "_seed", "_seeded", "_version")

    def __init__(self, seed: str, version: HashVersion = 2) -> None:
        self._seed = seed
        self._version = version
        self._seeded = fnv1a(seed)
        self._recent: dict[str, float] = {}
        self._earlier: dict[str, float] = {}

    def __call__(self, unit: str) -> float:
        """From 0 on, below 1."""
        bucket = self._recent.get(unit)
        return self._kept(unit) if bucket is None else bucket

    def _kept(self, unit: str) -> float:
        bucket = self._earlier.get(unit)
        if bucket is None:
            bucket = self.bucket_of(unit)
        recent = self._recent
        if len(recent) >= _KEPT:
            self._earlier, self._recent = recent, {unit: bucket}
        else:
            recent[unit] = bucket
        return bucket

    def bucket_of(self, unit: str) -> float:
        """The same, always by the hash."""
        if self._version == 2:
            return fnv1a(str(fnv1a(unit, self._seeded))) % 10_000 / 10_000
        return fnv1a(unit + self._seed) % 1_000 / 1_000


class Range(NamedTuple):
    """From `start` on, before `end`; both between 0 and 1."""

    start: float
    end: float

    def __contains__(self, bucket: object) -> bool:
        return isinstance(bucket, float) and self.start <= bucket < self.end


def variation_ranges(weights: Sequence[int], coverage: int) -> tuple[Range, ...]:
    """Each variation begins where the weights before it end, and is filled as far as coverage goes.

    So raising coverage only adds units: nobody moves from one variation to another.
    """
    ranges, before = [], 0
    for weight in weights:
        covered = before * WHOLE + weight * coverage
        ranges.append(Range(before / WHOLE, covered / (WHOLE * WHOLE)))
        before += weight
    return tuple(ranges)


def share_range(share: int) -> Range:
    return Range(0.0, share / WHOLE)


def overlap(first: Range, second: Range) -> Range:
    """What both hold; an empty range at 0 where they hold nothing in common."""
    start, end = max(first.start, second.start), min(first.end, second.end)
    return Range(start, end) if start < end else Range(0.0, 0.0)
