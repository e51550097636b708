"""`python -m bench` runs every bench; `python -m bench emitter [options]` runs one.

Each in a process of its own, one after the other. The results are in bench/results.
"""

from __future__ import annotations

import subprocess
import sys

BENCHES = {
    "emitter": "bench.emitter",
    "http_events": "bench.http_events",
    "http_assign": "bench.http_assign",
    "engine": "bench.engine.run",
    "freshness": "bench.freshness",
    "reports": "bench.reports",
    "assignment_requests": "bench.assignment_requests",
    "assignment": "bench.assignment",
}


def main(arguments: list[str]) -> int:
    name, *options = arguments or [""]
    if name in {"-h", "--help"}:
        print(f"{__doc__}\nBenches: {', '.join(BENCHES)}")
        return 0
    if name and name not in BENCHES:
        print(f"there is no bench {name}; known: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    failed = 0
    for bench in [name] if name else BENCHES:
        print(f"bench {bench}", flush=True)
        command = [sys.executable, "-m", BENCHES[bench], *options]
        failed |= subprocess.run(command, check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
