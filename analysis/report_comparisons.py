"""What does one metric say of one variation against the baseline? Every answer, or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis import cuped, strata
from analysis.bayes import Posterior, Prior, posterior
from analysis.effects import compare
from analysis.estimates import Estimate
from analysis.guardrail import Guarded, guard
from analysis.power import Design, days_to_go, design_of
from analysis.proportions import compare_proportions
from analysis.report_metrics import ReportMetric, estimate_of, proportion_of
from analysis.sequential import AlwaysValid, Tuning, compare_always, planned_for
from analysis.unit_statistics import ArmStatistics
from analysis.verdict import Comparison, NoVerdict, NoVerdictReason

Arms = Mapping[str, ArmStatistics]

NO_TARGET = NoVerdict(
    NoVerdictReason.NO_PLAN,
    "No number of units was planned, and there is no effect to derive one from.",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the experiment was planned, and how it goes."""

    baseline: str
    weights: Mapping[str, int]
    planned_units: int | None
    """In all variations."""
    days: float
    is_open: bool
    """Whether more units may come."""
    ran_its_time: bool = False
    """It has ended at the time that was set before, and not sooner."""
    level: float = 0.95
    prior: Prior | None = None

    def planned_for(self, variation: str) -> int | None:
        """In this variation and the baseline together."""
        return planned_for(self.planned_units, self.weights, self.baseline, variation)


@dataclass(frozen=True, slots=True)
class LessNoise:
    """With what is known of units taken away."""

    comparison: Comparison
    always_valid: AlwaysValid | NoVerdict
    variance_reduction: float
    theta: float | None = None
    merged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Power:
    detectable: float
    detectable_relative: float | None
    at_planned_units: float | None
    units_needed: float | None
    days_to_go: float | NoVerdict


@dataclass(frozen=True, slots=True)
class Compared:
    metric: ReportMetric
    variation: str
    comparison: Comparison | NoVerdict
    always_valid: AlwaysValid | NoVerdict
    posterior: Posterior | NoVerdict
    cuped: LessNoise | NoVerdict
    stratified: LessNoise | NoVerdict | None
    guarded: Guarded | NoVerdict | None
    power: Power | NoVerdict


def estimates(metric: ReportMetric, arms: Arms) -> dict[str, Estimate | NoVerdict]:
    return {
        key: estimate_of(metric.metric, arm, arm.metrics[metric.key]) for key, arm in arms.items()
    }


def compared(
    metric: ReportMetric,
    variation: str,
    arms: Arms,
    plan: Plan,
    *,
    segments: Mapping[str, Arms] | None = None,
    without_past: NoVerdict | None = None,
) -> Compared:
    of = estimates(metric, arms)
    baseline, arm = of[plan.baseline], of[variation]
    limit = metric.limit
    if isinstance(baseline, NoVerdict) or isinstance(arm, NoVerdict):
        why = baseline if isinstance(baseline, NoVerdict) else arm
        assert isinstance(why, NoVerdict)
        return Compared(metric, variation, why, why, why, why, None, why if limit else None, why)
    tuning = Tuning.for_units(plan.planned_for(variation), plan.level)
    found = _comparison(metric, variation, arms, baseline, arm, plan)
    return Compared(
        metric,
        variation,
        found,
        compare_always(baseline, arm, tuning, plan.level),
        posterior(
            baseline,
            arm,
            plan.prior,
            higher_is_better=metric.metric.direction != "down",
            level=plan.level,
        ),
        without_past or _by_past(metric, variation, arms, tuning, plan),
        _by_segments(metric, variation, segments, tuning, plan) if segments else None,
        guard(baseline, arm, limit, tuning, level=plan.level) if limit else None,
        _power(baseline, arm, variation, plan),
    )


def _comparison(
    metric: ReportMetric, variation: str, arms: Arms, baseline: Estimate, arm: Estimate, plan: Plan
) -> Comparison | NoVerdict:
    if metric.metric.kind != "proportion":
        return compare(baseline, arm, plan.level)
    before = proportion_of(arms[plan.baseline].metrics[metric.key])
    after = proportion_of(arms[variation].metrics[metric.key])
    if isinstance(before, NoVerdict):
        return before
    return after if isinstance(after, NoVerdict) else compare_proportions(before, after, plan.level)


def _by_past(
    metric: ReportMetric, variation: str, arms: Arms, tuning: Tuning, plan: Plan
) -> LessNoise | NoVerdict:
    if metric.metric.kind == "quantile":
        return NoVerdict(
            NoVerdictReason.NO_COVARIATE, "A quantile has no mean that the past could correct."
        )
    # Of all arms that have units: one slope for all. Empty ones have no past.
    keys = [key for key, arm in arms.items() if arm.units > 1 or key in (plan.baseline, variation)]
    moments = [arms[key].metrics[metric.key].moments for key in keys]
    adjust = cuped.adjusted_ratios if metric.metric.kind == "ratio" else cuped.adjusted_means
    adjusted = adjust(moments)
    if isinstance(adjusted, NoVerdict):
        return adjusted
    pair = (adjusted.arms[keys.index(plan.baseline)], adjusted.arms[keys.index(variation)])
    return _less_noise(pair, tuning, plan, adjusted.variance_reduction, theta=adjusted.theta)


def _by_segments(
    metric: ReportMetric, variation: str, segments: Mapping[str, Arms], tuning: Tuning, plan: Plan
) -> LessNoise | NoVerdict | None:
    if metric.metric.kind in ("ratio", "quantile"):
        return None
    pairs = {
        segment: [
            arms[key].metrics[metric.key].moments.one(0) for key in (plan.baseline, variation)
        ]
        for segment, arms in segments.items()
    }
    found = strata.post_stratified(pairs)
    if isinstance(found, NoVerdict):
        return found
    pair = (found.arms[0], found.arms[1])
    return _less_noise(pair, tuning, plan, found.variance_reduction, merged=found.merged)


def _less_noise(
    pair: Sequence[Estimate],
    tuning: Tuning,
    plan: Plan,
    variance_reduction: float,
    theta: float | None = None,
    merged: tuple[str, ...] = (),
) -> LessNoise | NoVerdict:
    baseline, arm = pair
    found = compare(baseline, arm, plan.level)
    if isinstance(found, NoVerdict):
        return found
    always = compare_always(baseline, arm, tuning, plan.level)
    return LessNoise(found, always, variance_reduction, theta, merged)


def _power(baseline: Estimate, arm: Estimate, variation: str, plan: Plan) -> Power | NoVerdict:
    design = design_of(baseline, arm, level=plan.level)
    if isinstance(design, NoVerdict):
        return design
    units = baseline.units + arm.units
    detectable = design.minimum_detectable_effect(units)
    planned = plan.planned_for(variation)
    effect = arm.value - baseline.value
    needed = design.units_needed(effect) if effect else None
    rate = units / plan.days if plan.is_open and plan.days > 0 else 0.0
    target = planned or needed
    return Power(
        detectable,
        detectable / baseline.value if baseline.value > 0 else None,
        _at(design, planned),
        needed,
        NO_TARGET if target is None else days_to_go(target, units, rate),
    )


def _at(design: Design, planned: int | None) -> float | None:
    return None if planned is None else design.minimum_detectable_effect(planned)
