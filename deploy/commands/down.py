"""`anabranch down`: end the stack of a state folder, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
from cyclopts import Parameter

from deploy.state import StackRecord, StateFolder, read_record, running
from service.errors import CommandError
from service.settings import DEFAULT_STATE

# Longer than all parts together have, each of which the stack kills after its own time.
STACK_SECONDS = 90
KILL_SECONDS = 10


def down(
    *,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Stop what `up` started there, and return when all of it is gone. The data stays."""
    folder = StateFolder(state.resolve())
    record = read_record(folder)
    if record is None:
        print(f"no stack runs in {folder.root}")
        return
    stack = running(record.pid, record.started)
    if stack is None:
        print(f"the stack in {folder.root} (pid {record.pid}) was gone already: cleaning up")
    else:
        end(stack)
    for part in left_behind(record):
        part.kill()
        part.wait(KILL_SECONDS)
        print(f"killed what was left of it: pid {part.pid}")
    folder.record.unlink(missing_ok=True)
    if stack is not None:
        print(f"stopped the stack in {folder.root}")


def end(stack: psutil.Process) -> None:
    try:
        stack.terminate()
        stack.wait(STACK_SECONDS)
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise CommandError(
            f"the stack (pid {stack.pid}) belongs to {stack.username()}: only that user can stop it"
        ) from error
    except psutil.TimeoutExpired:
        stack.kill()  # its parts end with it
        stack.wait(KILL_SECONDS)


def left_behind(record: StackRecord) -> Sequence[psutil.Process]:
    found = (running(part.pid, part.started) for part in record.processes)
    return [process for process in found if process is not None]
