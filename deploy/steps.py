"""What a stack says while it starts and runs: events, and the ways to show them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import BinaryIO, Literal, TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


@dataclass(frozen=True, slots=True)
class Event:
    kind: Literal["begins", "goes on", "done", "says", "ready", "stops", "failed"]
    text: str
    step: str = ""
    seconds: float = 0.0


Report = Callable[[Event], None]


@contextmanager
def step(report: Report, name: str) -> Iterator[None]:
    began = time.monotonic()
    report(Event("begins", "", name))
    yield
    report(Event("done", "", name, time.monotonic() - began))


def lines_to(
    file: TextIO, prefix: Callable[[], str] = str, *, with_failure: bool = False
) -> Report:
    """For a log or a pipe: a line for what is over, none for what goes on."""
    told = {"says", "ready", "stops", *(["failed"] if with_failure else [])}

    def report(event: Event) -> None:
        if event.kind == "done":
            line = f"{event.step}: {event.seconds:.1f} s"
        elif event.kind in told:
            line = event.text
        else:
            return
        with suppress(OSError):  # the reader went away, or the disk is full
            file.write(f"{prefix()}{line}\n")
            file.flush()

    return report


class Terminal:
    """Moving lines while steps run; each stays, with its time, when it is over."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        if event.kind == "begins":
            self._progress.start()
            self._tasks[event.step] = self._progress.add_task(event.step, total=1)
        elif event.kind == "goes on":
            description = f"{event.step} [dim]{event.text}"
            self._progress.update(self._tasks[event.step], description=description)
        elif event.kind == "done":
            self._progress.update(self._tasks[event.step], description=event.step, completed=1)
        elif event.kind == "says":
            self._print(event.text)
        else:
            self._progress.stop()  # gives the cursor back
            if event.kind != "failed":  # which whoever started all this tells
                self._print(f"\n{event.text}")

    def _print(self, text: str) -> None:
        # Not folded: a path in two lines cannot be copied.
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


def to_screen() -> Report:
    console = Console()
    return Terminal(console) if console.is_terminal else lines_to(sys.stdout)


def to_pipe(descriptor: int) -> Report:
    """To the process that waits for a detached stack, until it has heard the end of the start."""
    pipe: BinaryIO | None = os.fdopen(descriptor, "wb", buffering=0)

    def report(event: Event) -> None:
        nonlocal pipe
        if pipe is None:  # and its number may be that of another file by now
            return
        with suppress(OSError):  # nobody waits any more
            pipe.write(json.dumps(asdict(event)).encode() + b"\n")
        if event.kind in {"ready", "stops", "failed"}:
            pipe.close()
            pipe = None

    return report


def to_all(*reports: Report) -> Report:
    def report(event: Event) -> None:
        for one in reports:
            one(event)

    return report
