"""What a person sees of a rebuild: a line for each partition, or plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_LINE_EVERY_SECONDS = 5.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Shown:
    """Is told of records by what they are of."""

    def __init__(
        self, console: Console, bars: Progress | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._bars = bars
        self._clock = clock
        self._tasks: dict[str, TaskID] = {}
        self._expected = self._done = 0
        self._begun = self._said_at = clock()

    def phase(self, text: str) -> None:
        self._console.print(text)

    def expect(self, what: str, records: int) -> None:
        if not records:
            return
        self._expected += records
        if self._bars is None:
            return
        self._bars.start()  # not before: a question may have been asked
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=0)
        task = self._tasks[what]
        total = self._bars.tasks[task].total or 0
        self._bars.update(task, total=total + records)

    def advance(self, what: str, records: int) -> None:
        self._done += records
        if self._bars is not None:
            if what in self._tasks:
                self._bars.advance(self._tasks[what], records)
            return
        now = self._clock()
        if now - self._said_at >= _LINE_EVERY_SECONDS:
            self._said_at = now
            rate = self._done / (now - self._begun)
            left = max(0, self._expected - self._done) / rate
            self._console.print(
                f"{self._done:,} of {self._expected:,} records, {rate:,.0f}/s, about {left:,.0f} s "
                "left"
            )


@contextmanager
def progress(console: Console) -> Iterator[Shown]:
    if not console.is_terminal:
        yield Shown(console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    bars = Progress(*columns, console=console)
    try:
        yield Shown(console, bars)
    finally:
        bars.stop()
