"""`anabranch simulate` as a person runs it, against the running stack."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

from tests.live.stack_fixture import WholeStack

COMMAND = (sys.executable, "-m", "deploy.main", "simulate")


async def started(*arguments: str) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANABRANCH_")}
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


async def test_simulate_delivers_every_event_that_it_was_asked_for(stack: WholeStack) -> None:
    process = await started("--state", str(stack.state), "--rate", "5000", "--events", "3000")
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors
    last = printed.decode().splitlines()[-1]
    assert last.startswith("total: 3,000 events")
    assert "3,000 delivered, 0 on their way, 0 dropped" in last


async def test_simulate_ends_cleanly_with_totals_when_it_is_terminated(stack: WholeStack) -> None:
    process = await started("--state", str(stack.state), "--rate", "200")
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"so far: ")
    process.send_signal(signal.SIGTERM)
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert "0 on their way, 0 dropped" in printed.decode().splitlines()[-1]
