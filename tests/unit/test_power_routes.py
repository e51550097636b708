from __future__ import annotations

from typing import Any

import pytest

from analysis.power import Design
from analysis.sequential import Tuning
from service.power_routes import ArmPower, Course, Wanted, comparisons

WANTED = Wanted(power=0.8, level=0.95, sequential=False, effect=0.1)


def report(**fields: Any) -> dict[str, Any]:
    return {
        "period": {"days": 10.0},
        "status": "running",
        "method": {"planned_units": 100_000},
        "variations": [
            {"key": "control", "weight": 6_000},
            {"key": "warm", "weight": 2_000},
            {"key": "cold", "weight": 2_000},
        ],
        **fields,
    }


def metric(value: float | None = 10.0, why: str | None = None) -> dict[str, Any]:
    def arm(variation: str) -> dict[str, Any]:
        return {"variation": variation, "units": 500, "value": value, "sd": value and 2.0}

    no_verdicts = {} if why is None else {"power": {"reason": "any", "sentence": why}}
    return {
        "arms": [arm("control"), arm("warm")],
        "comparisons": [{"variation": "warm", "no_verdicts": no_verdicts}],
    }


def asked(of: dict[str, Any], body: dict[str, Any], wanted: Wanted = WANTED) -> ArmPower:
    (found,) = comparisons(of, Course.of(body), wanted)
    return found


def test_power_is_by_the_tuning_of_the_report_when_it_is_sequential() -> None:
    found = asked(metric(), report(), WANTED._replace(sequential=True))
    # Of the planned 100,000 units, 80 % are in the two.
    design = Design(4.0, 4.0, tuning=Tuning.for_units(80_000))
    assert found.minimum_detectable_effect == design.minimum_detectable_effect(1_000)
    assert found.effect
    assert found.effect.units_needed == design.units_needed(1.0)
    assert found.effect.power_now == pytest.approx(design.power(1.0, 1_000))


@pytest.mark.parametrize("status", ["stopped", "archived"])
def test_power_expects_nobody_when_the_experiment_is_over(status: str) -> None:
    found = asked(metric(), report(status=status), WANTED._replace(effect=0.001))
    assert found.units_per_day == 0
    assert {horizon.units for horizon in found.horizons} == {1_000}
    assert found.effect
    assert found.effect.days_to_go is None
    assert asked(metric(), report()).units_per_day == 100


def test_power_says_what_the_report_says_when_an_arm_has_no_value() -> None:
    found = asked(metric(None, why="The denominator is too near zero."), report())
    assert found.no_verdict == "The denominator is too near zero."
    assert found.minimum_detectable_effect is None
