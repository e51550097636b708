"""The whole rule, asked after every batch of units: how often it is wrong, and how soon right."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from analysis.decision import Action, Decision, Finding, GuardrailFinding, Situation, decide
from analysis.effects import compare
from analysis.estimates import mean
from analysis.guardrail import Limit, guard
from analysis.moments import Moments
from analysis.sequential import Tuning, compare_always
from analysis.verdict import NoVerdict
from tests.trust.kinds import known
from tests.trust.studies import LEVEL, Figure

_PLANNED = 4_000
_BATCH = 50
"""Units in each arm."""


def decisions(experiments: int, seed: int) -> Iterator[Figure]:
    """A primary metric and a guardrail of 5 %, up to just before the planned end."""
    slack = 4 * math.sqrt(LEVEL * (1 - LEVEL) / experiments)
    taken = [_first_decision(seed + at, gain=0.0, harm=0.0) for at in range(experiments)]
    wrong = sum(one is not None for one in taken) / experiments
    yield Figure("experiments decided, ever", "no effect at all", wrong, 0, LEVEL + slack)
    for name, gain, harm, right in (
        ("a gain of 0.3 deviations", 0.3, 0.0, Action.SHIP),
        ("a loss of 0.3 deviations", -0.3, 0.0, Action.ROLL_BACK),
        ("a guardrail 30 % worse", 0.0, 0.3, Action.ROLL_BACK),
    ):
        taken = [_first_decision(seed + at, gain=gain, harm=harm) for at in range(experiments)]
        found = sum(one is right for one in taken) / experiments
        yield Figure("experiments decided rightly, before the plan", name, found, 0.95, 1)


def _first_decision(seed: int, *, gain: float, harm: float) -> Action | None:
    """What was decided first, looking after every batch; None where nothing was."""
    rng = np.random.default_rng(seed)
    size = _PLANNED // 2 - _BATCH
    primary = rng.normal(0, 1, size), rng.normal(gain, 1, size)
    guarded = rng.gamma(9, 1, size), rng.gamma(9, 1 + harm, size)
    for units in range(100, size + 1, _BATCH):
        decision = _decided(*(values[:units] for values in (*primary, *guarded)))
        if decision.action in {Action.SHIP, Action.ROLL_BACK}:
            return decision.action
    return None


def _decided(*columns: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Decision:
    baseline, arm, guarded_baseline, guarded_arm = (mean(Moments.of(one)) for one in columns)
    tuning = Tuning.for_units(_PLANNED)
    once, always = known(compare(baseline, arm)), compare_always(baseline, arm, tuning)
    early = always if isinstance(always, NoVerdict) else always.p_value
    situation = Situation(
        baseline="control",
        units={"control": baseline.units, "warm": arm.units},
        days=14,
        planned_units=_PLANNED,
        ended=False,
        health_problems=(),
        primary=[Finding("primary", "warm", once.absolute.value, once.p_value, early)],
        guardrails=[
            GuardrailFinding(
                "guardrail", "warm", guard(guarded_baseline, guarded_arm, Limit(0.05), tuning)
            )
        ],
    )
    return decide(situation)
