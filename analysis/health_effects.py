"""Does an effect last, could it be seen at all, and does it break a limit?

Novelty: people look at what is new, and tire of it. But they also come less often by themselves,
whatever variation they are in, so absolute effects shrink without any novelty. What is compared is
therefore how much of a unit's first days is left later: later days over first days, of the same
units, as a ratio metric (`analysis.ratios`). Where the arm keeps a smaller share of its first days
than the baseline of its own, the effect fades.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.decision import GuardrailFinding
from analysis.effects import compare
from analysis.estimates import Estimate
from analysis.guardrail import Status
from analysis.health import Figure, Finding, Name, Verdict
from analysis.moments import JointMoments
from analysis.power import design_of
from analysis.ratios import ratio
from analysis.verdict import Comparison, Effect, NoVerdict

FIRST_DAYS = 3
"""Of a unit, its day of exposure among them, which count as the time when all is new to it."""

SIGNIFICANT = 0.01
"""Stricter than for effects: a warning for every twentieth metric would soon be read by nobody."""


LEAST_LEFT = 0.05
"""Of the baseline's first days. Units that never come again, such as sessions, tell nothing."""

LATER, FIRST = 0, 1


@dataclass(frozen=True, slots=True)
class Lasting:
    """A metric of one variation and of the baseline: columns LATER and FIRST, each the sum of a
    unit's values divided by the days, of the units that were exposed longer ago than FIRST_DAYS."""

    metric: str
    variation: str
    baseline: JointMoments
    arm: JointMoments


def novelty(lasting: Iterable[Lasting]) -> list[Finding]:
    """One for every metric and variation whose effect fades or grows, or a single one that says
    that none does."""
    found: list[Finding] = []
    compared = 0
    for one in lasting:
        of_baseline = ratio(one.baseline, LATER, FIRST)
        of_arm = ratio(one.arm, LATER, FIRST)
        if isinstance(of_baseline, NoVerdict) or isinstance(of_arm, NoVerdict):
            continue
        if of_baseline.value < LEAST_LEFT:
            continue
        change = compare(of_baseline, of_arm)
        if isinstance(change, NoVerdict) or isinstance(change.relative, NoVerdict):
            continue
        compared += 1
        if change.p_value < SIGNIFICANT:
            found.append(_changing(one, change, change.relative))
    if found:
        return found
    sentence = (
        "No effect differs between a unit's first days and later ones."
        if compared
        else f"Too few units have been there for more than {FIRST_DAYS} days to tell whether "
        "effects last."
    )
    return [Finding(Name.NOVELTY, Verdict.OK, sentence, figures={"compared": compared})]


def _changing(one: Lasting, change: Comparison, by: Effect) -> Finding:
    first = _relative(one, FIRST)
    later = _relative(one, LATER)
    figures: dict[str, Figure] = {
        "metric": one.metric,
        "variation": one.variation,
        "first_days": first,
        "later_days": later,
        "change": by.value,
        "change_low": by.interval.low,
        "change_high": by.interval.high,
        "p_value": change.p_value,
    }
    return Finding(
        Name.NOVELTY,
        Verdict.WARNING,
        f"The effect of {one.variation} on {one.metric} "
        f"{'fades' if abs(later) < abs(first) else 'grows'}: {first:+.1%} in a unit's first "
        f"{FIRST_DAYS} days and {later:+.1%} later (change {by.value:+.1%}, 95 % interval "
        f"{by.interval.low:+.1%} to {by.interval.high:+.1%}).",
        "Judge by later days: let it run until most units have been there for longer.",
        figures,
    )


def _relative(one: Lasting, column: int) -> float:
    # Not zero in either column: the ratio of both had a verdict.
    return one.arm.means[column] / one.baseline.means[column] - 1


@dataclass(frozen=True, slots=True)
class Planned:
    """A primary metric, and how many units of both arms the experiment is to reach."""

    metric: str
    variation: str
    baseline: Estimate
    arm: Estimate
    units: int | None
    worth_seeing: float = 0.05
    """The relative effect that it should be able to see."""


def underpowered(planned: Iterable[Planned], power: float = 0.8) -> list[Finding]:
    """One for each metric whose smallest visible effect is greater than what is worth seeing."""
    found = []
    for one in planned:
        design = design_of(one.baseline, one.arm)
        if isinstance(design, NoVerdict) or not one.baseline.value > 0:
            continue
        there = one.baseline.units + one.arm.units
        units = max(there, one.units or there)
        visible = design.minimum_detectable_effect(units, power) / one.baseline.value
        if not math.isfinite(visible) or visible <= one.worth_seeing:
            continue
        needed = math.ceil(design.units_needed(one.worth_seeing * one.baseline.value, power))
        found.append(
            Finding(
                Name.UNDERPOWERED,
                Verdict.WARNING,
                f"With {units:,} units an effect of {one.variation} on {one.metric} has to be "
                f"{visible:.1%} to be found in {power:.0%} of experiments.",
                f"For {one.worth_seeing:.0%} plan {needed:,} units, or take a metric that varies "
                "less; no clear result will not mean that there is no effect.",
                {
                    "metric": one.metric,
                    "variation": one.variation,
                    "units": units,
                    "minimum_detectable_effect": visible,
                    "units_needed": needed,
                },
            )
        )
    return found or [
        Finding(Name.UNDERPOWERED, Verdict.OK, "Effects that are worth seeing can be seen.")
    ]


def guardrails(findings: Sequence[GuardrailFinding], *, at_horizon: bool) -> list[Finding]:
    """One for each breach; at the planned end by the test for a single look."""
    found = []
    for one in findings:
        guarded = one.guarded
        if isinstance(guarded, NoVerdict):
            continue
        answer = guarded.at_horizon if at_horizon else guarded.any_time
        if isinstance(answer, NoVerdict) or answer.status is not Status.BREACHED:
            continue
        found.append(
            Finding(
                Name.GUARDRAIL,
                Verdict.BAD,
                f"{one.variation} breaches the guardrail on {one.metric}: it is worse than allowed "
                f"(p = {answer.p_breached:.2g}).",
                f"Stop the experiment, or take {one.variation} out of it.",
                {
                    "metric": one.metric,
                    "variation": one.variation,
                    "p_value": answer.p_breached,
                    "excess": guarded.excess,
                },
            )
        )
    return found or [Finding(Name.GUARDRAIL, Verdict.OK, "No guardrail is breached.")]
