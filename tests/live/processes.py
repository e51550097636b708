"""A process of the command line, started and ended as an operator would, or as a crash would."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ANABRANCH = (sys.executable, "-m", "deploy.main")


class AnabranchProcess:
    """`anabranch <arguments>`. It may be started again after its end."""

    def __init__(
        self, *arguments: str, output: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.output = output
        self._command = [*ANABRANCH, *arguments]
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def answers(self) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self._command[3]} does not run"
        return self._process.pid

    def start(self, timeout: float = 60) -> None:
        """Return when it answers."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                lines = self.output.read_text(errors="replace").splitlines()[-20:]
                raise RuntimeError("\n".join([f"{self._command[3]} did not start:", *lines]))
            time.sleep(0.05)

    def stop(self, timeout: float = 30) -> int:
        """End it as an operator would; its exit status, 0 when it does not run."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL, 10)

    def _end(self, how: signal.Signals, timeout: float) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        status = self._process.returncode
        self._process = None
        return status
