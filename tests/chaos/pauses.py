"""How long a partition rests when workers come and go: `python -m tests.chaos.pauses`.

Measured where it shows, under steady traffic: between two rows of a partition in `batches`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.house import ChaosWorker, House, opened
from tests.chaos.running import Run

_AFTER_SECONDS = 6.0
# Of a worker as it comes: the harness has shorter ones.
SETTINGS = {
    "SESSION_TIMEOUT_SECONDS": 10,
    "FLUSH_SECONDS": 0.8,
    "BATCH_ROWS": 100_000,
    "DRAIN_SECONDS": 10,
}


def longest_pauses(house: House, begun: float, ended: float) -> list[float]:
    """Of each partition of turns, in seconds, longest first."""
    rows = house.asked(
        """
        SELECT max(gap) FROM (
            SELECT partition, applied_at, toUnixTimestamp64Milli(applied_at) AS at,
                (at - lagInFrame(at, 1, at) OVER (PARTITION BY partition ORDER BY first
                    ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)) / 1000 AS gap
            FROM batches WHERE topic = 'turn-metrics.v1'
        ) WHERE applied_at BETWEEN fromUnixTimestamp64Milli({begun:Int64})
            AND fromUnixTimestamp64Milli({ended:Int64})
        GROUP BY partition ORDER BY 1 DESC
        """,
        begun=int(begun * 1000),
        ended=int(ended * 1000),
    )
    return [float(row[0]) for row in rows]


def reformed(house: House) -> float:
    name = "anabranch_worker_reformed_batches_total"
    return sum(worker.metric(name) for worker in house.workers)


def _nothing(house: House) -> None:
    time.sleep(8)


def _rolling_restart(house: House) -> None:
    for worker in house.workers:
        begun = time.monotonic()
        worker.stop()
        stopped = time.monotonic() - begun
        worker.start()
        started = time.monotonic() - begun - stopped
        sys.stdout.write(f"    {worker.name}: {stopped:.1f} s to stop, {started:.1f} s to start\n")
        time.sleep(4)


def _surge(house: House) -> None:
    """One more first, so that its start is over when the other one goes."""
    guest = ChaosWorker(house, "guest", **SETTINGS)
    guest.start()
    time.sleep(5)
    guest.stop()


def _kill(house: House) -> None:
    house.workers[0].kill()
    time.sleep(15)
    house.workers[0].start()
    time.sleep(3)


def _kill_and_restart(house: House) -> None:
    house.workers[0].kill()
    house.workers[0].start()
    time.sleep(3)


def _freeze(house: House) -> None:
    house.workers[0].freeze()
    time.sleep(15)
    house.workers[0].thaw()
    time.sleep(3)


CASES: tuple[tuple[str, Callable[[House], None]], ...] = (
    ("nothing", _nothing),
    ("rolling restart of both", _rolling_restart),
    ("a third one comes and goes", _surge),
    ("kill -9, started again at once", _kill_and_restart),
    ("kill -9, away for 15 s", _kill),
    ("frozen for 15 s", _freeze),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.pauses", description=__doc__)
    parser.add_argument("--rate", type=float, default=2_000.0, help="events/s")
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first so many")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs has to end with it
    folder = Path(tempfile.mkdtemp(prefix="anabranch-pauses-"))
    with (
        opened(folder / "house", workers=2, settings=SETTINGS) as house,
        Run(house, seed=random.randrange(1000), rate=arguments.rate, quiet=True) as run,
    ):
        time.sleep(5)
        for name, case in CASES[: arguments.cases]:
            begun, before = time.time(), reformed(house)
            case(house)
            time.sleep(_AFTER_SECONDS)
            pauses = ", ".join(f"{p:.1f}" for p in longest_pauses(house, begun, time.time()))
            again = reformed(house) - before if case in {_nothing, _surge} else reformed(house)
            sys.stdout.write(f"{name}: {pauses} s; batches formed again: {again:g}\n")
            sys.stdout.flush()
        run.settle_and_look(whole=True)
    for difference in run.differences:
        sys.stdout.write(f"{difference}\n")
    shutil.rmtree(folder)
    return 1 if run.differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
