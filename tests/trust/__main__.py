"""`python -m tests.trust`: what the statistics promise and what they do; exit status 1 if not that.

`--gbstats` compares with GrowthBook's statistics instead, in an environment of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import chain

from tests.trust import gbstats_peer
from tests.trust.decisions import decisions
from tests.trust.kill_switches import kill_switches
from tests.trust.studies import all_studies


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.trust", description=__doc__)
    parser.add_argument("--experiments", type=int, default=4_000, help="for each figure")
    parser.add_argument("--looks", type=int, default=60, help="at each that is looked at always")
    parser.add_argument("--seed", type=int, default=20_261)
    parser.add_argument("--gbstats", action="store_true")
    arguments = parser.parse_args()
    if arguments.gbstats:
        return gbstats_peer.main()
    began = time.monotonic()
    broken = 0
    print(f"{'study':46} {'subject':26} {'seen':>8}   between", flush=True)
    studies = all_studies(arguments.experiments, arguments.looks, arguments.seed)
    decided = decisions(max(100, arguments.experiments // 8), arguments.seed)
    switches = kill_switches(max(100, arguments.experiments // 4), arguments.looks, arguments.seed)
    for figure in chain(studies, decided, switches):
        broken += not figure.holds
        print(
            f"{figure.study:46} {figure.subject:26} {figure.seen:8.4f}   "
            f"{max(figure.least, -9):.4f} and {figure.most:.4f}{'' if figure.holds else '  NO'}",
            flush=True,
        )
    seconds = time.monotonic() - began
    print(f"{broken} outside of their bounds; seed {arguments.seed}, {seconds:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
