"""`python -m tests.chaos --minutes 30 --seed 7`: exit status 1 and the exact difference, or 0."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.house import opened
from tests.chaos.running import Run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--rate", type=float, default=2_000.0, help="events/s")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="faults whose names contain this, in turn")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs has to end with it
    sys.stdout.write(f"seed {arguments.seed}, {arguments.workers} workers\n")
    folder = Path(tempfile.mkdtemp(prefix="anabranch-chaos-"))
    with (
        opened(folder, workers=arguments.workers) as house,
        Run(house, seed=arguments.seed, rate=arguments.rate) as run,
    ):
        if arguments.only:
            for fault in FAULTS:
                if arguments.only in fault.name and not run.differences:
                    run.round([fault])
        else:
            run.for_seconds(arguments.minutes * 60)
        if not run.differences:
            run.settle_and_look(whole=True)
    sys.stdout.write(f"{run.summary()}\n")
    if run.differences:
        sys.stdout.write(f"the data and the logs are kept in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
