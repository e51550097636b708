from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import NormalIndPower

from analysis.estimates import Estimate
from analysis.power import Design, days_to_go, design_of, detectable_at
from analysis.sequential import AlwaysValid, Tuning, compare_always
from analysis.verdict import NoVerdict, NoVerdictReason


@pytest.mark.parametrize("share", [0.5, 0.2])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_design_has_the_power_units_and_effect_of_statsmodels(share: float, level: float) -> None:
    design = Design(4.0, 4.0, share, level)
    theirs = NormalIndPower()
    of_baseline = 1_000 * (1 - share)
    odds = share / (1 - share)
    power = theirs.power(0.1, of_baseline, 1 - level, ratio=odds)
    assert design.power(0.2, 1_000) == pytest.approx(power, rel=1e-9)
    # Their search for the effect ends within some millionths.
    units = theirs.solve_power(0.1, alpha=1 - level, power=0.8, ratio=odds) / (1 - share)
    assert design.units_needed(0.2, 0.8) == pytest.approx(units, rel=1e-5)
    effect = theirs.solve_power(nobs1=of_baseline, alpha=1 - level, power=0.8, ratio=odds)
    assert design.minimum_detectable_effect(1_000, 0.8) == pytest.approx(2 * effect, rel=1e-5)


def test_design_answers_undo_each_other() -> None:
    design = Design(3.0, 8.0, 0.4)
    effect = design.minimum_detectable_effect(5_000, 0.9)
    assert design.power(effect, 5_000) == pytest.approx(0.9)
    assert design.power(-effect, 5_000) == pytest.approx(0.9)
    assert design.units_needed(effect, 0.9) == pytest.approx(5_000)


def test_design_that_may_be_looked_at_always_takes_more_units() -> None:
    once = Design(1, 1)
    least = once.units_needed(0.1) * ((3.0351 + 0.8416) / (1.96 + 0.8416)) ** 2
    planned = Design(1, 1, tuning=Tuning.for_units(round(least)))
    assert planned.units_needed(0.1) == pytest.approx(least, rel=1e-3)
    for other in (round(least / 50), round(least * 50)):
        assert Design(1, 1, tuning=Tuning.for_units(other)).units_needed(0.1) > 1.05 * least


@pytest.mark.parametrize("planned", [500, 10_000, 400_000])
def test_design_has_the_power_that_reports_have_of_their_tuning(planned: int) -> None:
    tuning, units, effect = Tuning.for_units(planned), 8_000, 0.08
    random = np.random.default_rng(4)
    gains = random.normal(effect, 2 / np.sqrt(units), 3_000)
    half = units // 2
    found = [
        compare_always(Estimate(half, 0.0, 1.0), Estimate(half, float(gain), 1.0), tuning)
        for gain in gains
    ]
    seen = sum(isinstance(one, AlwaysValid) and one.p_value < 0.05 for one in found) / len(found)
    # Within three standard errors of a share of 3,000.
    assert Design(1, 1, tuning=tuning).power(effect, units) == pytest.approx(seen, abs=0.027)


@pytest.mark.parametrize("planned", [500, 400_000])
def test_design_answers_undo_each_other_with_a_tuning(planned: int) -> None:
    design = Design(3.0, 8.0, 0.4, tuning=Tuning.for_units(planned))
    effect = design.minimum_detectable_effect(5_000, 0.9)
    assert design.power(effect, 5_000) == pytest.approx(0.9)
    assert design.units_needed(-effect, 0.9) == pytest.approx(5_000)


def test_design_of_takes_the_variances_and_shares_of_the_experiment() -> None:
    assert design_of(Estimate(300, 1, 4), Estimate(100, 2, 9)) == Design(4, 9, 0.25)
    for arm, reason in [
        (Estimate(0, 0, 0), NoVerdictReason.NO_UNITS),
        (Estimate(1, 0, 0), NoVerdictReason.TOO_FEW_UNITS),
        (Estimate(9, 0, float("inf")), NoVerdictReason.NOT_FINITE),
        (Estimate(9, 0, 0), NoVerdictReason.ZERO_VARIANCE),
    ]:
        answer = design_of(Estimate(300, 1, 0), arm)
        assert isinstance(answer, NoVerdict)
        assert answer.reason is reason


def test_days_to_go_are_none_when_enough_and_no_verdict_when_nobody_comes() -> None:
    assert days_to_go(1_000, 400, 100) == 6
    assert days_to_go(1_000, 1_200, 0) == 0
    answer = days_to_go(1_000, 400, 0)
    assert isinstance(answer, NoVerdict)
    assert answer.reason is NoVerdictReason.NO_ARRIVALS


def test_power_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="effect of zero"):
        Design(1, 1).units_needed(0)
    with pytest.raises(ValueError, match="found by chance"):
        detectable_at(0.01, 1.96)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        Design(1, 1, 1.0)
