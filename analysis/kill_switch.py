"""Has a variation done so much harm that the experiment has to stop now?

The question of a guardrail (`analysis.guardrail`), asked after every batch, so only its answer for
any time counts. With several variations each is asked at its part of the level (Bonferroni): the
promise is for the experiment. It is tuned for few units, since great harm shows early; at a hundred
times as many its bounds are an eighth wider than the narrowest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anabranch.definitions import KillSwitch
from analysis.estimates import Estimate, Proportion, mean
from analysis.guardrail import Limit, Status, guard
from analysis.metric_catalogue import Metric, Source
from analysis.moments import JointMoments
from analysis.ratios import ratio
from analysis.sequential import Tuning
from analysis.verdict import NoVerdict

WATCHED_UNITS = 1_000
"""Of both arms, where the bounds are narrowest."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One variation beside the control."""

    variation: str
    control: Estimate
    arm: Estimate
    p_value: float
    """Of "the harm is within the threshold", at all looks, for all variations of the experiment."""
    trips: bool


@dataclass(frozen=True, slots=True)
class Unwatched:
    variation: str
    why: NoVerdict


def look(
    rule: KillSwitch,
    control: str,
    variations: Sequence[str],
    arms: Mapping[str, Estimate | NoVerdict],
) -> list[Watched | Unwatched]:
    """`variations` are those beside the control; an arm may be missing as long as it is empty."""
    level = 1 - (1 - rule.level) / len(variations)
    limit = Limit(rule.threshold, higher_is_worse=rule.direction == "increase")
    tuning = Tuning.for_units(WATCHED_UNITS, level)
    baseline = arms.get(control, _EMPTY)
    found: list[Watched | Unwatched] = []
    for variation in variations:
        arm = arms.get(variation, _EMPTY)
        if isinstance(baseline, NoVerdict):
            found.append(Unwatched(variation, baseline))
            continue
        if isinstance(arm, NoVerdict):
            found.append(Unwatched(variation, arm))
            continue
        guarded = guard(baseline, arm, limit, tuning, level=level)
        answer = guarded if isinstance(guarded, NoVerdict) else guarded.any_time
        if isinstance(answer, NoVerdict):
            found.append(Unwatched(variation, answer))
            continue
        p_value = min(1.0, answer.p_breached * len(variations))
        trips = answer.status is Status.BREACHED
        found.append(Watched(variation, baseline, arm, p_value, trips))
    return found


_EMPTY = Estimate(0, 0.0, 0.0)


def estimate_of(metric: Metric, moments: JointMoments) -> Estimate | NoVerdict:
    """Of a unit's values; of a ratio: numerator, then denominator."""
    if metric.kind == "ratio":
        return ratio(moments)
    if metric.kind == "proportion":
        return Proportion(moments.units, round(moments.units * moments.means[0])).estimate()
    return mean(moments.one(0))


def unwatchable(metric: Metric) -> str | None:
    """Why a kill switch cannot watch it."""
    if metric.kind == "quantile":
        return "is a quantile, which cannot be followed unit by unit; take a mean or a proportion"
    if metric.cap is not None and metric.cap.percentile is not None:
        return "has a cap by percentile, which moves with the data; give it an absolute one"
    if metric.conversion_window_hours is not None and any(
        source.outcome is None for source in sources_of(metric)
    ):
        return "has a conversion window, and only outcomes are followed within one"
    return None


def sources_of(metric: Metric) -> list[Source]:
    """Numerator first."""
    given = (metric.source, metric.numerator, metric.denominator)
    return [source for source in given if source is not None]


def said(rule: KillSwitch, one: Watched) -> str:
    """Why it trips, as a sentence with the numbers."""
    change = "from nothing"
    if one.control.value:
        change = f"{one.arm.value / one.control.value - 1:+.1%}"
    allowed = rule.threshold if rule.direction == "increase" else -rule.threshold
    return (
        f"{one.variation} has {rule.metric} at {one.arm.value:.4g} where the control has "
        f"{one.control.value:.4g} ({change}, allowed {allowed:+.1%}); "
        f"p = {one.p_value:.2g} at any time, after {one.arm.units:,} and "
        f"{one.control.units:,} units"
    )
