"""Answers that are made once: for all who ask at the same time, until what is under them changes.

A question has a key, which holds all that the asker knows: the experiment, the version of its
definition, the parameters. What only the data know, a mark, is looked at when the last look is
older than `kept_seconds`; where it is the same as before, so is the answer.

What takes long is made less often: of the time, at most `busy_share` goes into one answer, whether
it comes or fails, as long as that makes no answer older than a minute. Where the machine is busy,
those who look would otherwise take it from what brings the events.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

Seen = TypeVar("Seen")
Value = TypeVar("Value")


LONGEST_REST_SECONDS = 60.0


class How(StrEnum):
    """How an answer came about, as the metric has it."""

    MADE = "made"
    KEPT = "kept"
    UNCHANGED = "unchanged"
    SHARED = "shared"


class Answered(NamedTuple, Generic[Value]):
    value: Value
    how: How


@dataclass(slots=True)
class _Entry(Generic[Value]):
    mark: Hashable
    good_until: float
    value: Value
    size: int


class AnswerCache(Generic[Seen, Value]):
    """Bounded by the size of its answers: the one that was asked for longest ago goes first."""

    def __init__(
        self,
        look: Callable[[], Awaitable[Seen]],
        mark_of: Callable[[Seen], Hashable],
        size_of: Callable[[Value], int],
        *,
        kept_seconds: float,
        busy_share: float,
        at_once: int,
        most_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._mark_of = mark_of
        self._size_of = size_of
        self._kept_seconds = kept_seconds
        self._rest = 1 / busy_share - 1
        self._making = asyncio.Semaphore(at_once)
        self._most_bytes = most_bytes
        self._clock = clock
        self._entries: OrderedDict[Hashable, _Entry[Value]] = OrderedDict()
        self._failures: dict[Hashable, tuple[float, Exception]] = {}
        self._under_way: dict[Hashable, asyncio.Task[Answered[Value]]] = {}
        self.bytes = 0

    async def get(self, key: Hashable, make: Callable[[Seen], Awaitable[Value]]) -> Answered[Value]:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            if self._clock() < entry.good_until:
                return Answered(entry.value, How.KEPT)
        failed_until, failure = self._failures.get(key, (0.0, None))
        if failure is not None and self._clock() < failed_until:
            raise failure.with_traceback(None)
        # Whatever is under way is joined, even when new data came since it began: under load, each
        # would otherwise start another query on top of those that are slow already.
        task = self._under_way.get(key)
        if task is not None:
            return Answered((await asyncio.shield(task)).value, How.SHARED)
        task = asyncio.create_task(self._answer(key, make))
        self._under_way[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))
        # Shielded: who asked first may go away, the others still wait for the answer.
        return await asyncio.shield(task)

    async def close(self) -> None:
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _answer(
        self, key: Hashable, make: Callable[[Seen], Awaitable[Value]]
    ) -> Answered[Value]:
        began = self._clock()
        seen = await self._look()
        mark = self._mark_of(seen)
        entry = self._entries.get(key)
        if entry is not None and entry.mark == mark:
            entry.good_until = began + self._kept_seconds
            return Answered(entry.value, How.UNCHANGED)
        async with self._making:
            making = self._clock()
            try:
                value = await make(seen)
            except Exception as failure:
                now = self._clock()
                self._failures = {k: one for k, one in self._failures.items() if one[0] > now}
                self._failures[key] = self._rested(making), failure
                raise
        good_until = max(began + self._kept_seconds, self._rested(making))
        self._keep(key, _Entry(mark, good_until, value, self._size_of(value)))
        return Answered(value, How.MADE)

    def _rested(self, began: float) -> float:
        now = self._clock()
        return now + min((now - began) * self._rest, LONGEST_REST_SECONDS)

    def _keep(self, key: Hashable, entry: _Entry[Value]) -> None:
        self._drop(key)
        if entry.size > self._most_bytes:
            return
        self._entries[key] = entry
        self.bytes += entry.size
        while self.bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            self.bytes -= entry.size

    def _ended(self, key: Hashable, task: asyncio.Task[Answered[Value]]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # everyone who asked may have gone: it is no news to the loop
