"""The ranges that are being applied: one of each partition, few at once, as many as fit in memory.

Few, since they share the machine: of many that begin together, each ends when the last one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from sinks.writer import SinkAbandoned
from streams.kafka_log import FencedError, TopicPartition


class UnderWay:
    def __init__(self, most: int, most_rows: int, wake: Callable[[], None]) -> None:
        """`wake` is called whenever one has ended, well or not."""
        self._most = most
        self._most_rows = most_rows
        self._wake = wake
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._rows = 0
        self._error: BaseException | None = None

    def __contains__(self, place: TopicPartition) -> bool:
        return place in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    def has_room(self, ranges: int, rows: int) -> bool:
        """For so many more. One alone may always begin, whatever its size."""
        count = len(self._tasks) + ranges
        return count <= 1 or (count <= self._most and self._rows + rows <= self._most_rows)

    def begin(self, place: TopicPartition, rows: int, applying: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(applying, name=f"apply {place.topic}/{place.partition}")
        self._tasks[place] = task
        self._rows += rows

        def ended(_: asyncio.Task[None]) -> None:
            del self._tasks[place]
            self._rows -= rows
            if not task.cancelled() and (error := task.exception()) is not None:
                self._note(error)
            self._wake()

        task.add_done_callback(ended)

    def raise_error(self) -> None:
        """The gravest of those that ended badly since the last call: FencedError, or what ends the
        worker. Nobody wants what was abandoned."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def forget_fenced(self) -> None:
        """What the group's going on has ended says nothing of what is assigned next."""
        if isinstance(self._error, FencedError):
            self._error = None

    async def all_ended(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self.all_ended()

    def _note(self, error: BaseException) -> None:
        if isinstance(error, SinkAbandoned):
            return
        if self._error is None or isinstance(self._error, FencedError):
            self._error = error
