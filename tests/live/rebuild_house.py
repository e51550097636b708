"""A Kafka, a ClickHouse, a worker and traffic with poison in it, and a look at everything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chaos.aggregates import aggregate_differences
from tests.chaos.comparing import (
    applied_up_to,
    batch_differences,
    slice_differences,
    total_differences,
)
from tests.chaos.crashing_worker import VARIABLE as CRASH_WORKER
from tests.chaos.events import EVENT_TOPICS, Mixture, schema_ids
from tests.chaos.log_oracle import LogOracle, Slice
from tests.chaos.sending import Sender
from tests.live.crashing_rebuild import VARIABLE as CRASH_REBUILD
from tests.live.worker_fixture import Surroundings, WorkerProcess, surroundings, wait_until

PARTITIONS = 2
RATE = 500.0
_VERIFY = "from cyclopts import run; from service.commands.verify import verify; run(verify)"
SETTINGS: dict[str, Any] = {
    "INTENT_AGE_SECONDS": 2,
    "SESSION_TIMEOUT_SECONDS": 6,
    "FLUSH_SECONDS": 0.5,
    "BATCH_ROWS": 5_000,
    "DEAD_SHARE": 0.5,
    "DRAIN_SECONDS": 4,
}


class CrashableWorker(WorkerProcess):
    def __init__(self, around: Surroundings, folder: Path) -> None:
        super().__init__(around, folder, **SETTINGS)
        self._command = [sys.executable, "-m", "tests.chaos.crashing_worker", *self._command[3:]]
        self._usual = {**around.environment, **self.settings}
        self._environment = self._usual

    def start_to_crash_at(self, step: str) -> None:
        self._environment = {**self._usual, CRASH_WORKER: step}
        try:
            self.start()
        finally:
            self._environment = self._usual


class House:
    def __init__(self, around: Surroundings, folder: Path) -> None:
        self.around = around
        self.folder = folder
        self.worker = CrashableWorker(around, folder)
        ids = schema_ids(around.service.url)
        self.mixture = Mixture(1, RATE, ids)
        self.sender = Sender(around.kafka.bootstrap, self.mixture, RATE, 1)
        self.oracle = LogOracle(around.kafka.bootstrap, EVENT_TOPICS, PARTITIONS)
        self._slices: list[dict[Any, Slice]] = []

    def rebuild(self, *arguments: str, crash: str = "") -> subprocess.CompletedProcess[str]:
        settings = {f"ANABRANCH_WORKER__{name}": str(value) for name, value in SETTINGS.items()}
        environment = {**self.around.environment, **settings, "RUST_BACKTRACE": "0"}
        return subprocess.run(
            [
                *(sys.executable, "-m", "tests.live.crashing_rebuild", "rebuild"),
                *(*arguments, "--state", str(self.folder)),
            ],
            env={**environment, **({CRASH_REBUILD: crash} if crash else {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )

    def rebuilt(self, *arguments: str) -> str:
        """What it printed. It has to end well."""
        answer = self.rebuild(*arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def settle(self) -> None:
        """No traffic, and all of it applied."""
        self.sender.pause()
        self._slices.append(self.oracle.read_on())
        totals = self.oracle.totals

        def everything_is_applied() -> bool:
            applied = applied_up_to(self.around.asked)
            return all(applied.get(place, -1) >= total.last for place, total in totals.items())

        wait_until(everything_is_applied, 120)

    def differences(self) -> list[str]:
        """Between what lies in Kafka and what the live tables hold, sums too."""
        self.settle()
        asked = self.around.asked
        found: list[str] = []
        for slices in self._slices:
            for place, slice_ in slices.items():
                found += slice_differences(asked, place, slice_)
        found += total_differences(asked, self.oracle.totals)
        found += batch_differences(asked, self.oracle.totals)
        found += aggregate_differences(asked)
        self.sender.go_on()
        return found

    def verified(self) -> str:
        """What the command finds beside ingestion; nothing when all is well."""
        answer = subprocess.run(
            [sys.executable, "-c", _VERIFY, "--state", str(self.folder)],
            env=self.around.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return answer.stdout + answer.stderr if answer.returncode else ""

    def ledger_side(self, database: str = "anabranch") -> dict[str, list[list[Any]]]:
        """The rows that say who applied what and when."""
        columns = {
            "batches": "topic, partition, epoch, first, last, rows, dead, skipped, lost, min_ts, "
            "max_ts, min_append, max_append, applied_at, worker",
            "restatements": "topic, partition, first, last, window, events, applied_at, worker",
            "dead_letters": "topic, partition, epoch, offset, reason, detail, "
            "cityHash64(ifNull(key, ''), ifNull(value, '')), schema_id, timestamp, died_at, worker",
            "dead_letter_marks": "topic, partition, epoch, offset, mark, at_epoch, at_offset, "
            "marked_at, marked_by, note",
            "batch_totals": "topic, partition, epoch, sum(batches), sum(rows), sum(dead), "
            "sum(skipped), sum(lost), max(last), max(max_ts), max(applied_at)",
        }
        return {
            table: self.around.asked(
                f"SELECT {some} FROM {database}.{table}"
                + (" GROUP BY topic, partition, epoch" if table == "batch_totals" else "")
                + " ORDER BY ALL"
            )
            for table, some in columns.items()
        }


@contextmanager
def opened(folder: Path) -> Iterator[House]:
    os.environ.setdefault("RUST_BACKTRACE", "0")
    with surroundings(folder, partitions=PARTITIONS) as around:
        house = House(around, folder)
        house.worker.start()
        house.sender.start()
        try:
            wait_until(lambda: sum(applied_up_to(around.asked).values()) > 4_000, 180)
            yield house
        finally:
            house.sender.stop()
            house.oracle.close()
            house.worker.stop()
