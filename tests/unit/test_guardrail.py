from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from analysis.estimates import Estimate, mean
from analysis.guardrail import Answer, Guarded, Limit, Status, guard
from analysis.moments import Moments
from analysis.sequential import Tuning
from analysis.verdict import NoVerdict, NoVerdictReason

TUNING = Tuning.for_units(10_000)


def guarded(baseline: Estimate, arm: Estimate, limit: Limit) -> Guarded:
    answer = guard(baseline, arm, limit, TUNING)
    assert isinstance(answer, Guarded)
    return answer


def at_any_time(answer: Guarded) -> Answer:
    assert isinstance(answer.any_time, Answer)
    return answer.any_time


@pytest.mark.parametrize("higher_is_worse", [True, False])
def test_guard_has_the_one_sided_p_values_of_scipy_on_a_shifted_baseline(
    higher_is_worse: bool,
) -> None:
    rng = np.random.default_rng(61)
    baseline, arm = rng.gamma(3, 2, 400), rng.gamma(3, 2.05, 300)
    factor = 1.05 if higher_is_worse else 0.95
    sides: list[Literal["greater", "less"]] = ["greater", "less"]
    answer = guarded(
        mean(Moments.of(baseline)), mean(Moments.of(arm)), Limit(0.05, True, higher_is_worse)
    ).at_horizon
    answers = [answer.p_breached, answer.p_holds]
    if not higher_is_worse:
        answers.reverse()
    for ours, side in zip(answers, sides, strict=True):
        theirs = stats.ttest_ind(arm, factor * baseline, equal_var=False, alternative=side)
        assert ours == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("arm", "status"),
    [(100.0, Status.HOLDS), (105.0, Status.OPEN), (112.0, Status.BREACHED)],
)
@pytest.mark.parametrize("higher_is_worse", [True, False])
def test_guard_holds_is_open_or_breached_by_what_is_shown(
    arm: float, status: Status, higher_is_worse: bool
) -> None:
    value = arm if higher_is_worse else 200 - arm
    answer = guarded(
        Estimate(5_000, 100, 900), Estimate(5_000, value, 900), Limit(0.05, True, higher_is_worse)
    )
    assert answer.at_horizon.status is status
    assert at_any_time(answer).status is status


def test_guard_bounds_are_on_the_side_of_zero_that_the_status_says() -> None:
    breached = guarded(Estimate(5_000, 100, 900), Estimate(5_000, 112, 900), Limit(0.05))
    holds = guarded(Estimate(5_000, 100, 900), Estimate(5_000, 100, 900), Limit(0.05))
    assert breached.excess == pytest.approx(7)
    for answer in (breached.at_horizon, at_any_time(breached)):
        assert 0 < answer.excess.low < 7 < answer.excess.high
    for answer in (holds.at_horizon, at_any_time(holds)):
        assert answer.excess.low < -5 < answer.excess.high < 0


def test_guard_at_any_time_is_less_sure_than_at_the_horizon() -> None:
    answer = guarded(Estimate(5_000, 100, 900), Estimate(5_000, 107, 900), Limit(0.05))
    assert at_any_time(answer).p_breached > answer.at_horizon.p_breached


def test_guard_sees_harm_when_the_baseline_is_all_zero() -> None:
    answer = guarded(Estimate(5_000, 0, 0), Estimate(5_000, 0.2, 0.3), Limit(0.05))
    assert at_any_time(answer).status is Status.BREACHED


def test_guard_takes_an_absolute_limit_also_of_a_negative_baseline() -> None:
    limit = Limit(2.0, relative=False)
    answer = guarded(Estimate(5_000, -10, 9), Estimate(5_000, -5, 9), limit)
    assert answer.at_horizon.status is Status.BREACHED
    assert answer.excess == pytest.approx(3)


def test_guard_has_no_verdict_but_a_reason_when_a_percentage_means_nothing_or_units_lack() -> None:
    for baseline, reason in [
        (Estimate(500, -3, 1), NoVerdictReason.NEGATIVE_BASELINE),
        (Estimate(0, 0, math.nan), NoVerdictReason.NO_UNITS),
        (Estimate(1, 3, math.nan), NoVerdictReason.TOO_FEW_UNITS),
    ]:
        answer = guard(baseline, Estimate(500, 3, 1), Limit(0.05), TUNING)
        assert isinstance(answer, NoVerdict)
        assert answer.reason is reason
    early = guarded(Estimate(50, 3, 1), Estimate(50, 9, 1), Limit(0.05))
    assert early.at_horizon.status is Status.BREACHED
    assert isinstance(early.any_time, NoVerdict)


def test_limit_is_not_negative() -> None:
    with pytest.raises(ValueError, match="zero or more"):
        Limit(-0.05)
