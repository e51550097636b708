"""`anabranch worker`, ended at a step: `CHAOS_CRASH=after_intent:3` dies when it was there thrice.

A crash is `os._exit`: no handler runs, nothing is flushed, as with kill -9. The steps lie in the
engine's own methods, which are wrapped here and know nothing of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from deploy.main import main
from sinks.writer import Writer
from streams.dead_letters import DeadLetterTopics
from streams.pipeline import Pipeline
from streams.taking_up import TakingUp

VARIABLE = "CHAOS_CRASH"
STATUS = 87
"""Of a process that ended at its step."""

TABLES = (
    *("dead_letters", "exposures", "turn_metrics", "invites", "outcomes", "metric_windows"),
    *("unit_exposures", "unit_metrics", "invite_units", "restatements", "batches"),
)
STEPS = (
    "after_taking_up",
    "after_intent",
    "after_dead_letters",
    *(f"after_{table}" for table in TABLES),
    "during_an_insert",
    "before_confirmation",
    "after_confirmation",
    "at_revocation",
)

Method = Callable[..., Awaitable[Any]]


class _Steps:
    def __init__(self, wanted: str) -> None:
        self._step, _, count = wanted.partition(":")
        self._remaining = int(count or 1)
        if self._step not in STEPS:
            raise SystemExit(f"{VARIABLE}: no step {self._step!r}; there are {', '.join(STEPS)}")

    def reached(self, step: str) -> None:
        if step == self._step:
            self._remaining -= 1
            if self._remaining <= 0:
                os._exit(STATUS)

    def before(self, kind: type, name: str, step: Callable[..., str]) -> None:
        method: Method = getattr(kind, name)

        @wraps(method)
        async def wrapped(*arguments: Any, **options: Any) -> Any:
            self.reached(step(*arguments))
            return await method(*arguments, **options)

        setattr(kind, name, wrapped)

    def after(self, kind: type, name: str, step: Callable[..., str]) -> None:
        method: Method = getattr(kind, name)

        @wraps(method)
        async def wrapped(*arguments: Any, **options: Any) -> Any:
            result = await method(*arguments, **options)
            self.reached(step(*arguments))
            return result

        setattr(kind, name, wrapped)

    def during(self, kind: type, name: str, step: str) -> None:
        method: Method = getattr(kind, name)

        @wraps(method)
        async def wrapped(*arguments: Any, **options: Any) -> Any:
            # Long enough for the request to leave, too short for the answer.
            asyncio.get_running_loop().call_later(0.004, self.reached, step)
            return await method(*arguments, **options)

        setattr(kind, name, wrapped)


def arm(steps: _Steps) -> None:
    def confirming(pipeline: Pipeline, *_: Any) -> str:
        waits = any(p.ledger and not p.ledger.confirmed for p in pipeline.partitions.values())
        return "before_confirmation" if waits else ""

    def published(_: DeadLetterTopics, __: Any, ___: int, dead: Any) -> str:
        return "after_dead_letters" if dead else ""

    steps.after(TakingUp, "take_up", lambda _, partitions, __: "after_taking_up" * bool(partitions))
    steps.after(Pipeline, "_intend", lambda *_: "after_intent")
    steps.after(DeadLetterTopics, "publish", published)
    steps.after(Writer, "insert", lambda _, insert, *__: f"after_{insert.table}")
    steps.during(Writer, "_attempt", "during_an_insert")
    steps.after(Pipeline, "_confirm", lambda *_: "after_confirmation")
    steps.before(Pipeline, "_confirm", confirming)
    steps.before(Pipeline, "revoke", lambda *_: "at_revocation")


if __name__ == "__main__":
    if wanted := os.environ.get(VARIABLE, ""):
        arm(_Steps(wanted))
    sys.argv[0] = "anabranch"
    main()
