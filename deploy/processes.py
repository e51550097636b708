"""One part of the stack as a process: started, watched, started again, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from deploy.log_file import LogFile
from deploy.plan import Part
from deploy.restarts import RestartRule
from deploy.state import RunningPart, start_time
from deploy.steps import Event, Report
from service.errors import CommandError

# -P: without it, a module in the folder that `up` was called in goes before ours.
PYTHON = (sys.executable, "-P", "-m")


class PartError(CommandError):
    """A part of the stack ended and is not started again."""


class PartProcess:
    def __init__(
        self,
        part: Part,
        environment: Mapping[str, str],
        log: Path,
        report: Report,
        changed: Callable[[], None],
        rule: RestartRule,
    ) -> None:
        self.part = part
        self._environment = environment
        self._log_path = log
        self._log = LogFile(log)
        self._report = report
        self._rule = rule
        self._changed = changed  # another pid: the record on disk is old
        self._process: asyncio.subprocess.Process | None = None
        self._printing: asyncio.Task[None] | None = None
        self._died_at: list[float] = []
        self.record: RunningPart | None = None

    async def keep(self) -> None:
        """Run it, and again when it dies; PartError when that has become pointless."""
        while True:
            status = await self._run_once()
            self._died_at.append(time.monotonic())
            wait = self._rule.wait(self._died_at) if self.part.restarts else None
            if wait is None:
                raise PartError(self._why_given_up(status))
            self._report(
                Event(
                    "says",
                    f"{self.part.name} {how_it_ended(status)}; it is started again in {wait:g} s "
                    f"(restart {len(self._died_at)})\n{self._last_lines()}",
                )
            )
            await asyncio.sleep(wait)

    async def _run_once(self) -> int:
        # Of its own session: Ctrl-C at the terminal reaches the stack alone, which then ends the
        # parts in their order.
        process = await asyncio.create_subprocess_exec(
            *(*PYTHON, "deploy.child", str(os.getpid()), *self.part.arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
            start_new_session=True,
        )
        self._process = process
        self.record = RunningPart(
            name=self.part.name,
            pid=process.pid,
            started=start_time(process.pid),
            restarts=len(self._died_at),
        )
        self._changed()
        self._printing = asyncio.create_task(self._print(process))
        status = await process.wait()
        await self._printing
        return status

    async def _print(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while output := await process.stdout.read(65536):
            self._log.write(output)

    async def printed(self, start: str) -> str:
        """What follows on the line of its output that starts so, as soon as there is one."""
        while True:
            for line in self._log.last_lines():
                if line.startswith(start):
                    return line.removeprefix(start).strip()
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End it politely, and for good after the time it has."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):  # it ended this moment
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.part.stop_seconds)
        except TimeoutError:
            self._report(
                Event(
                    "says",
                    f"{self.part.name} did not end within {self.part.stop_seconds:g} s: killed",
                )
            )
            self.kill()
            await process.wait()
        if self._printing is not None:
            await self._printing

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def _why_given_up(self, status: int) -> str:
        rule = self._rule
        often = f", {rule.deaths} times in {rule.within:g} s" if self.part.restarts else ""
        return (
            f"{self.part.name} {how_it_ended(status)}{often}: the stack ends. Its last lines:\n"
            f"{self._last_lines()}\n  all of them: {self._log_path}"
        )

    def _last_lines(self) -> str:
        return "\n".join(f"  | {line}" for line in self._log.last_lines())


def how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    return f"was killed by {signal.Signals(-status).name}"
