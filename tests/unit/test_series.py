"""What steps add comes to the same as all units taken together at the end of each step."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.estimates import mean
from analysis.moments import JointMoments, Moments
from analysis.sequential import AlwaysValid, Tuning, compare_always
from analysis.series import Added, Sums, joint, settling, wearing
from analysis.verdict import NoVerdict, NoVerdictReason

TUNING = Tuning.for_units(None)
STEPS = 4


def added(values: dict[str, list[list[int]]]) -> list[Added]:
    """`values`: by variation and unit, what it did in each step; all units come in the first."""
    rows = []
    for variation, units in values.items():
        for step in range(STEPS):
            before = [sum(unit[:step]) for unit in units]
            after = [sum(unit[: step + 1]) for unit in units]
            own = [unit[step] for unit in units]
            gained = Sums(
                x=sum(after) - sum(before),
                xx=sum(a * a for a in after) - sum(b * b for b in before),
            )
            alone = Sums(x=sum(own), xx=sum(one * one for one in own))
            new = len(units) if step == 0 else 0
            rows.append(Added("", variation, step, new, len(units), gained, alone))
    return rows


@pytest.mark.parametrize("large", [0, 10**12], ids=["small", "large values near each other"])
def test_settling_equals_all_units_together_at_each_step(large: int) -> None:
    random = np.random.default_rng(1)
    values = {
        name: [[large + int(random.poisson(high)) for _ in range(STEPS)] for _ in range(150)]
        for name, high in (("control", 5), ("warm", 6))
    }
    found = settling(added(values), list(values), "mean", dict.fromkeys(values, TUNING), 0.95)
    for step in range(STEPS):
        arms = []
        for units in values.values():
            totals = [sum(unit[: step + 1]) for unit in units]
            about = mean(Moments.of([total - large * (step + 1) for total in totals]))
            arms.append(about)
        expected = compare_always(arms[0], arms[1], TUNING)
        point = found["warm"][step]
        assert isinstance(expected, AlwaysValid)
        assert isinstance(point.sequential, AlwaysValid)
        assert point.sequential.p_value == pytest.approx(
            expected.p_value, rel=0.01 if large else 1e-9
        )
        assert point.units == 150
    assert found["control"][0].sequential is None


def test_wearing_takes_units_that_have_lived_through_the_day() -> None:
    nothing = Sums()
    rows = [
        Added("", "a", 0, 5, 0, nothing, Sums(x=30, xx=200)),
        Added("", "a", 1, 3, 0, nothing, Sums(x=6, xx=20)),
        Added("", "a", 2, 2, 0, nothing, nothing),
        Added("", "b", 1, 4, 0, nothing, nothing),
    ]
    found = wearing(rows, ["a", "b"], "mean", {"b": TUNING}, 0.95)
    # Three lived through one day and two through two; five have only just come.
    assert [point.units for point in found["a"]] == [5, 2]
    assert [point.own_value for point in found["a"]] == [6.0, 3.0]
    assert [point.units for point in found["b"]] == [4, 0]
    last = found["b"][1].sequential
    assert isinstance(last, NoVerdict)
    assert last.reason is NoVerdictReason.NO_UNITS


def test_joint_counts_in_parts_where_it_is_told_so() -> None:
    x, y = [10**9 + 0.25, 10**9 - 0.5, 10**9], [8, 24, 16]
    in_quarters, in_eights = [round(4 * one) for one in x], [one // 8 for one in y]
    sums = Sums(
        x=sum(in_quarters),
        y=sum(in_eights),
        xx=sum(one * one for one in in_quarters),
        xy=sum(a * b for a, b in zip(in_quarters, in_eights, strict=True)),
        yy=sum(one * one for one in in_eights),
    )
    found, expected = joint(3, sums, (2, -3)), JointMoments.of(x, y)
    assert found.means == pytest.approx(expected.means, rel=1e-15)
    for row, same in zip(found.products, expected.products, strict=True):
        assert row == pytest.approx(same, rel=1e-12)


def test_settling_tunes_each_variation_for_its_own_units() -> None:
    random = np.random.default_rng(2)
    values = {
        name: [[int(random.poisson(5)) for _ in range(STEPS)] for _ in range(150)]
        for name in ("control", "warm", "cold")
    }
    tunings = {"warm": Tuning.for_units(500), "cold": Tuning.for_units(50_000)}
    found = settling(added(values), list(values), "mean", tunings, 0.95)
    for name, tuning in tunings.items():
        control, arm = (
            mean(Moments.of([sum(unit) for unit in values[one]])) for one in ("control", name)
        )
        expected, point = compare_always(control, arm, tuning), found[name][-1].sequential
        assert isinstance(expected, AlwaysValid)
        assert isinstance(point, AlwaysValid)
        assert point.p_value == pytest.approx(expected.p_value)
        assert point.interval.low == pytest.approx(expected.interval.low)
