"""`python -m deploy.child PARENT COMMAND...`: one part of the stack, which ends with its parent.

Even when the parent is killed with -9, so that nothing is left behind to hold ports and data.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import deploy.main
from deploy.state import running, start_time

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.5


def end_with(parent: int) -> None:
    """From here on: when the parent is gone, so is this process, whatever it executes by then."""
    if sys.platform == "linux":
        # The kernel keeps this over exec. It watches the parent's *thread* that started us, which
        # for the supervisor is the main one.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        fork_guard(parent)
    if os.getppid() != parent:
        sys.exit("the stack ended while this part was being started")


def fork_guard(parent: int) -> None:
    """Where the kernel has no such signal: a child of ours looks after both."""
    guarded, started = os.getpid(), start_time(parent)
    if os.fork():
        return
    while os.getppid() == guarded:
        if running(parent, started) is None:
            os.kill(guarded, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    os._exit(0)


def main() -> None:
    end_with(int(sys.argv.pop(1)))
    deploy.main.main()


if __name__ == "__main__":
    main()
