"""What may change of an experiment while units are being assigned by it. Pure.

Names, metrics, targeting, coverage and parameters may. What would give units that have been exposed
another variation may not, except for weights: those open a new phase, in which nobody moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from anabranch.definitions import Definition
from anabranch.plans import Status
from service.experiment_states import ChangeRefusedError

_INSTEAD = "stop the experiment first, or clone it and start the clone"


def check_change(before: Definition, after: Definition, status: Status, at: datetime) -> None:
    """Raises ChangeRefusedError with all that stands against it."""
    problems = []
    if status is Status.RUNNING:
        problems = [f"{problem}: {_INSTEAD}" for problem in _moving(before, after)]
        if after.starts_at is not None and after.starts_at > at:
            problems.append(
                "starts_at lies ahead, and the experiment is running: stop it, then schedule it"
            )
    elif before.phases:
        problems = [
            f"{problem}, and units keep what its {len(before.phases)} phases gave them: clone it"
            for problem in _moving(before, after)
        ]
    if problems:
        raise ChangeRefusedError(f"{before.key} is {status.value}. " + ". ".join(problems))


def _moving(before: Definition, after: Definition) -> Iterator[str]:
    """What would give units that were exposed another variation, as the beginnings of sentences."""
    for name, was, wanted in (
        ("unit", before.unit, after.unit),
        ("seed", before.hash_seed, after.hash_seed),
        ("hash_version", before.hash_version, after.hash_version),
    ):
        if was != wanted:
            yield f"{name} cannot change from {was} to {wanted}, since units would change places"
    keys = [variation.key for variation in before.variations]
    wanted_keys = [variation.key for variation in after.variations]
    gone = [key for key in keys if key not in wanted_keys]
    if gone:
        yield (
            f"the variation {gone[0]} cannot be removed or renamed, since units are in it (with a "
            "weight of 0 no others come)"
        )
    elif wanted_keys[: len(keys)] != keys:
        yield f"the variations must begin with {', '.join(keys)} in this order; add others behind"
