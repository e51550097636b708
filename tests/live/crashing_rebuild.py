"""`anabranch rebuild`, ended at a step: `REBUILD_CRASH=exchanged:3` dies after the third exchange.

A crash is `os._exit`, as with kill -9. The steps are the rebuild's own methods, wrapped here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from deploy.main import main
from streams.rebuild.closing import Closing
from streams.rebuild.fresh import Fresh
from streams.rebuild.rounds import Rounds
from streams.rebuild.swap import Swap

VARIABLE = "REBUILD_CRASH"
STATUS = 88
"""Of a process that ended at its step."""

STEPS: dict[str, tuple[type, str]] = {
    "made": (Fresh, "make"),
    "replayed": (Rounds, "replay_what_is_settled"),
    "caught_up": (Rounds, "replay_the_rest"),
    "noted": (Swap, "begin"),
    "exchanged": (Swap, "_exchange"),
    "closed_a_gap": (Closing, "close"),
    "ended": (Swap, "end"),
}

Method = Callable[..., Awaitable[Any]]


def arm(wanted: str) -> None:
    step, _, count = wanted.partition(":")
    kind, name = STEPS[step]
    remaining = int(count or 1)
    method: Method = getattr(kind, name)

    @wraps(method)
    async def wrapped(*arguments: Any, **options: Any) -> Any:
        nonlocal remaining
        result = await method(*arguments, **options)
        remaining -= 1
        if not remaining:
            os._exit(STATUS)
        return result

    setattr(kind, name, wrapped)


if __name__ == "__main__":
    if wanted := os.environ.pop(VARIABLE, ""):
        arm(wanted)
    sys.argv[0] = "anabranch"
    main()
