from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from analysis.decision import (
    Action,
    Finding,
    GuardrailFinding,
    Rule,
    Situation,
    Unfound,
    decide,
)
from analysis.estimates import NO_UNITS, ZERO_VARIANCE, Estimate
from analysis.guardrail import Limit, guard
from analysis.sequential import Tuning
from analysis.verdict import NoVerdict

SURE, SURE_AT_HORIZON, UNSURE = (0.001, 0.01), (0.01, 0.3), (0.4, 1.0)


def finding(
    gain: float,
    p_values: tuple[float, float | NoVerdict],
    variation: str = "warm",
    metric: str = "output_tokens",
) -> Finding:
    return Finding(metric, variation, gain, *p_values)


def guardrail(arm: float, variation: str = "warm") -> GuardrailFinding:
    """Of 5 % on a baseline of 100: 100 holds, 105 is open, 112 is breached."""
    baseline, of_arm = Estimate(5_000, 100, 900), Estimate(5_000, arm, 900)
    answer = guard(baseline, of_arm, Limit(0.05), Tuning.for_units(10_000))
    return GuardrailFinding("turn_ms", variation, answer)


def situation(
    primary: Sequence[Finding | Unfound],
    guardrails: Sequence[GuardrailFinding] = (),
    planned: int | None = 20_000,
) -> Situation:
    return Situation(
        baseline="control",
        units={"control": 5_000, "warm": 5_000},
        days=14,
        planned_units=planned,
        ended=False,
        health_problems=(),
        primary=primary,
        guardrails=guardrails,
    )


@pytest.mark.parametrize(
    ("primary", "guardrails", "early", "late"),
    [
        pytest.param([finding(1, SURE)], [], Action.SHIP, Action.SHIP, id="better for sure"),
        pytest.param(
            [finding(1, SURE_AT_HORIZON)], [], Action.KEEP_RUNNING, Action.SHIP,
            id="better at the planned end only",
        ),
        pytest.param(
            [finding(1, UNSURE)], [], Action.KEEP_RUNNING, Action.NO_DECISION, id="unclear"
        ),
        pytest.param(
            [finding(-1, SURE)], [], Action.ROLL_BACK, Action.ROLL_BACK, id="worse for sure"
        ),
        pytest.param(
            [finding(-1, SURE_AT_HORIZON)], [], Action.KEEP_RUNNING, Action.ROLL_BACK,
            id="worse at the planned end only",
        ),
        pytest.param(
            [finding(1, SURE)], [guardrail(100)], Action.SHIP, Action.SHIP, id="guardrail holds"
        ),
        pytest.param(
            [finding(1, SURE)], [guardrail(105)], Action.KEEP_RUNNING, Action.NO_DECISION,
            id="guardrail open",
        ),
        pytest.param(
            [finding(1, SURE)], [guardrail(112)], Action.ROLL_BACK, Action.ROLL_BACK,
            id="guardrail breached",
        ),
        pytest.param(
            [finding(1, SURE), finding(-1, SURE, metric="choices")], [],
            Action.ROLL_BACK, Action.ROLL_BACK, id="one primary better, one worse",
        ),
        pytest.param(
            [finding(1, SURE), finding(-1, UNSURE, metric="choices")], [],
            Action.SHIP, Action.SHIP, id="one primary better, one unclear",
        ),
        pytest.param(
            [finding(1, (0.001, NO_UNITS))], [], Action.KEEP_RUNNING, Action.SHIP,
            id="not yet any result valid at any time",
        ),
        pytest.param(
            [finding(1, SURE)], [GuardrailFinding("turn_ms", "warm", ZERO_VARIANCE)],
            Action.KEEP_RUNNING, Action.NO_DECISION, id="guardrail without verdict",
        ),
        pytest.param(
            [Unfound("output_tokens", "warm", ZERO_VARIANCE)], [],
            Action.KEEP_RUNNING, Action.NO_DECISION, id="primary without verdict",
        ),
        pytest.param([], [], Action.NO_DECISION, Action.NO_DECISION, id="no primary"),
    ],
)  # fmt: skip
def test_decide_follows_the_rule_before_and_at_the_planned_end(
    primary: Sequence[Finding | Unfound],
    guardrails: Sequence[GuardrailFinding],
    early: Action,
    late: Action,
) -> None:
    before = situation(primary, guardrails)
    for now, action in [
        (before, early),
        (replace(before, planned_units=None), early),
        (replace(before, planned_units=10_000), late),
        (replace(before, ended=True, ran_its_time=True), late),
    ]:
        decision = decide(now)
        assert decision.action is action
        assert (decision.variation == "warm") == (action in {Action.SHIP, Action.ROLL_BACK})
        assert decision.reasons
        assert all(reason.endswith(".") for reason in decision.reasons)


@pytest.mark.parametrize("gain", [1, -1])
@pytest.mark.parametrize("ended", [True, False])
def test_decide_decides_nothing_when_health_is_bad(gain: float, ended: bool) -> None:
    sick = replace(
        situation([finding(gain, SURE)], [guardrail(112)]),
        health_problems=["Units are missing from warm."],
        ended=ended,
    )
    decision = decide(sick)
    assert decision.action is Action.NO_DECISION
    assert decision.variation is None
    assert decision.reasons == ("Units are missing from warm.",)


def test_decide_waits_for_the_minimum_of_units_and_says_who_lacks_them() -> None:
    small = replace(situation([finding(1, SURE)]), units={"control": 5_000, "warm": 99})
    decision = decide(small)
    assert decision.action is Action.KEEP_RUNNING
    assert decision.reasons == ("warm has 99 units; a decision takes 100 in each.",)
    assert decide(small, Rule(minimum_units=50)).action is Action.SHIP
    assert decide(replace(small, ended=True)).action is Action.NO_DECISION


def test_decide_waits_for_the_minimum_of_days_to_ship_but_not_to_roll_back() -> None:
    young = replace(situation([finding(1, SURE)]), days=2.5)
    decision = decide(young)
    assert decision.action is Action.KEEP_RUNNING
    assert decision.reasons[-1] == "It has run for 2.5 days; shipping takes 7."
    assert decide(young, Rule(minimum_days=2)).action is Action.SHIP
    harmful = replace(situation([finding(-1, SURE)]), days=2.5)
    assert decide(harmful).action is Action.ROLL_BACK


def test_decide_ships_the_one_that_gains_most_and_names_the_harmful_one() -> None:
    primary = [
        finding(1, SURE, "warm"),
        finding(3, SURE, "bold"),
        finding(9, SURE, "loud"),
        finding(-2, SURE, "cold"),
    ]
    many = replace(
        situation(primary, [guardrail(112, "loud"), guardrail(100, "bold")]),
        units=dict.fromkeys(("control", "warm", "bold", "loud", "cold"), 5_000),
    )
    decision = decide(many)
    assert (decision.action, decision.variation) == (Action.SHIP, "bold")
    told = " ".join(decision.reasons)
    assert "The guardrails on turn_ms hold." in told
    assert "loud breaches the guardrail on turn_ms" in told
    assert "cold is worse in output_tokens" in told


def test_decide_tells_of_a_primary_metric_without_a_verdict_beside_others() -> None:
    mixed = situation([finding(1, UNSURE), Unfound("choices", "warm", ZERO_VARIANCE)])
    assert f"choices: {ZERO_VARIANCE.sentence}" in decide(mixed).reasons


def test_decide_says_how_far_the_experiment_is() -> None:
    unclear = situation([finding(1, UNSURE)])
    assert decide(unclear).reasons[-1] == "It has 10,000 of 20,000 planned units."
    assert "no number was planned" in decide(replace(unclear, planned_units=None)).reasons[-1]
    assert "are reached" in decide(replace(unclear, planned_units=10_000)).reasons[-1]
    ended = replace(unclear, ended=True)
    assert "has ended" in decide(replace(ended, ran_its_time=True)).reasons[-1]
    assert "stopped early" in decide(ended).reasons[-1]


def test_decide_takes_what_holds_at_any_time_when_it_was_stopped_early() -> None:
    peeked = replace(
        situation([finding(1, (0.04, 0.4))], planned=100_000),
        units={"control": 300, "warm": 300},
        days=0.1,
        ended=True,
    )
    decision = decide(peeked)
    assert decision.action is Action.NO_DECISION
    assert decision.reasons[-1].startswith(
        "It was stopped early, with 600 units (100,000 were planned)"
    )
    sure = replace(peeked, primary=[finding(1, SURE)])
    assert decide(sure).action is Action.NO_DECISION
    assert decide(sure).reasons[-1] == "It has run for 0.1 days; shipping takes 7."
    assert decide(replace(sure, days=7)).action is Action.SHIP
    assert any("stopped early" in reason for reason in decide(replace(sure, days=7)).reasons)
    assert decide(replace(peeked, primary=[finding(-1, SURE)])).action is Action.ROLL_BACK
    assert decide(replace(peeked, primary=[finding(-1, (0.04, 0.4))])).action is Action.NO_DECISION
