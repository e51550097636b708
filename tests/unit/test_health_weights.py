from __future__ import annotations

from datetime import date

import pytest

from analysis.health import Verdict
from analysis.health_arrivals import Arrivals
from analysis.health_weights import weights

SPLITS = {1: "even", 2: "even", 3: "tilted"}


def arrivals(**by_version: int) -> list[Arrivals]:
    return [
        Arrivals(int(version[1:]), date(2026, 5, 4), locale, {"control": n // 4, "warm": n // 4})
        for version, n in by_version.items()
        for locale in ("de", "en")
    ]


def test_weights_say_how_many_units_are_left_out_when_they_changed() -> None:
    found = weights(arrivals(v1=400, v3=1_000), SPLITS, (3, 3))
    assert found.verdict is Verdict.WARNING
    assert not found.forbids_decision
    assert "400 of 1,400 units" in found.sentence
    assert (found.figures["left_out"], found.figures["from_version"]) == (400, 3)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        pytest.param({"v1": 400, "v2": 600}, Verdict.OK, id="versions of the same weights"),
        pytest.param({"v1": 400, "v3": 600}, Verdict.BAD, id="two sets of weights"),
        pytest.param({"v1": 4, "v3": 6_000}, Verdict.WARNING, id="a few stragglers"),
        pytest.param({"v1": 400, "v9": 400}, Verdict.OK, id="versions that nobody knows"),
        pytest.param({}, Verdict.OK, id="no units"),
    ],
)
def test_weights_forbid_a_decision_when_a_period_puts_several_together(
    counts: dict[str, int], verdict: Verdict
) -> None:
    found = weights(arrivals(**counts), SPLITS, None)
    assert found.verdict is verdict
    assert found.forbids_decision is (verdict is Verdict.BAD)
    assert found.sentence.endswith(".")
    assert bool(found.what_to_do) is (verdict is not Verdict.OK)


def test_weights_are_fine_when_all_units_came_under_those_of_now() -> None:
    assert weights(arrivals(v3=400), SPLITS, (3, 3)).verdict is Verdict.OK
