"""`up --detach`: the stack in the background, this process only until it is ready."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Sequence

from deploy.processes import PYTHON
from deploy.state import StateFolder
from deploy.steps import Event, Report
from service.errors import CommandError


def start_detached(state: StateFolder, arguments: Sequence[str], report: Report) -> None:
    """Return when the stack is ready; CommandError with its reason when it ended before."""
    reading, writing = os.pipe()
    with (state.logs / "stack.log").open("ab") as log:
        stack = subprocess.Popen(
            [*PYTHON, "deploy.main", "up", *arguments, "--report-to", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    try:
        with os.fdopen(reading) as lines:
            last = relay((Event(**json.loads(line)) for line in lines), report)
    except KeyboardInterrupt:
        stack.terminate()
        stack.wait()
        raise
    if last.kind == "ready":
        stack.returncode = 0  # it goes on without us, which Python would warn of
        return
    stack.wait()
    if last.kind == "failed":
        raise CommandError(last.text)
    raise CommandError(f"the stack ended with {stack.returncode}:\n{log_lines(state)}")


def relay(events: Iterable[Event], report: Report) -> Event:
    """Pass them on until the pipe ends, which it does when all is ready or the stack is gone."""
    last = Event("says", "")
    for last in events:
        report(last)
    return last


def log_lines(state: StateFolder) -> str:
    lines = (state.logs / "stack.log").read_text(errors="replace").splitlines()[-10:]
    return "\n".join(f"  | {line}" for line in lines)
