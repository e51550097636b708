"""A minute of chaos: `python -m tests.chaos` does the same for as long as it is told."""

from __future__ import annotations

import os
from pathlib import Path

from tests.chaos.house import opened
from tests.chaos.running import Run

# The clock of a random run is its machine's, so a seed names the faults and not their moments.
SEED = int(os.environ.get("CHAOS_SEED", "41"))
SECONDS = 60.0
RATE = 500.0


def test_every_event_is_stored_once_when_anything_breaks_at_random(tmp_path: Path) -> None:
    with opened(tmp_path / "house", workers=2) as house, Run(house, seed=SEED, rate=RATE) as run:
        run.for_seconds(SECONDS)
        run.settle_and_look(whole=True)
    assert not run.differences, f"seed {SEED}:\n" + "\n".join(run.differences)
