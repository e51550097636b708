"""The life of the process around an emitter: its end, SIGTERM, and forks.

SIGTERM: where the handler is the default one and the emitter is made in the main thread, ours is
set. It delivers within the close timeout and then lets the default action end the process. A
handler of somebody else is never replaced; who has one calls `flush` or `close` in it.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from typing import Protocol


class Resident(Protocol):
    close_timeout: float

    def flush_now(self, timeout: float) -> None: ...

    def end_now(self) -> None: ...

    def begin_again(self) -> None: ...


# Strong: an emitter that nobody holds any more may still have events to deliver.
_residents: set[Resident] = set()


def take_in(resident: Resident, *, on_sigterm: bool) -> None:
    """From now on its events are delivered before the process ends, until `let_go`."""
    _residents.add(resident)
    if (
        on_sigterm
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _terminate)


def let_go(resident: Resident) -> None:
    _residents.discard(resident)


def _terminate(number: int, frame: object) -> None:
    started = time.monotonic()
    for resident in list(_residents):
        # One deadline for all of them, however many there are.
        resident.flush_now(max(0.0, started + resident.close_timeout - time.monotonic()))
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _exit() -> None:
    for resident in list(_residents):
        resident.end_now()


def _forked() -> None:
    for resident in list(_residents):
        resident.begin_again()


atexit.register(_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
