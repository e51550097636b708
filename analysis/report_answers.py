"""Results as the document shows them: finite numbers, or null with the reason beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from analysis.bayes import Posterior
from analysis.estimates import NOT_FINITE, Estimate
from analysis.guardrail import Answer, Guarded
from analysis.report_comparisons import Arms, Compared, LessNoise, Power, estimates
from analysis.report_document import (
    AdjustedAnswer,
    ArmAnswer,
    BayesianAnswer,
    Bounds,
    ComparisonAnswer,
    EffectAnswer,
    GuardrailAnswer,
    GuardrailBound,
    MetricAnswer,
    NoVerdictAnswer,
    PowerAnswer,
    SequentialAnswer,
)
from analysis.report_metrics import ReportMetric, method_of
from analysis.sequential import AlwaysValid
from analysis.unit_statistics import ArmStatistics
from analysis.verdict import Effect, Interval, NoVerdict

Result = TypeVar("Result")
Shown = TypeVar("Shown")


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def bounds(interval: Interval) -> Bounds:
    return finite(interval.low), finite(interval.high)


def why(no_verdict: NoVerdict) -> NoVerdictAnswer:
    return NoVerdictAnswer(reason=no_verdict.reason, sentence=no_verdict.sentence)


def metric_answer(
    metric: ReportMetric,
    arms: Arms,
    comparisons: Sequence[ComparisonAnswer],
    caps: Mapping[str, float],
) -> MetricAnswer:
    of = estimates(metric, arms)
    one = metric.metric
    ratio = one.kind == "ratio"
    reasons = [comparison.no_verdict for comparison in comparisons]
    return MetricAnswer(
        metric=metric.key,
        name=one.name or metric.key,
        kind=one.kind,
        role=metric.role,
        roles=metric.roles,
        direction=one.direction,
        method=method_of(one, [arm.metrics[metric.key] for arm in arms.values()]),
        cap=_cap(metric, caps, f"{metric.key}.numerator" if ratio else metric.key),
        denominator_cap=_cap(metric, caps, f"{metric.key}.denominator") if ratio else None,
        conversion_window_hours=one.conversion_window_hours,
        arms=tuple(_arm_answer(metric, key, arm, of[key]) for key, arm in arms.items()),
        comparisons=tuple(comparisons),
        no_verdict=reasons[0] if reasons and all(reasons) else None,
    )


def _cap(metric: ReportMetric, caps: Mapping[str, float], name: str) -> float | None:
    cap = metric.metric.cap
    if cap is None:
        return None
    return cap.absolute if cap.absolute is not None else finite(caps.get(name))


def _arm_answer(
    metric: ReportMetric, key: str, arm: ArmStatistics, estimate: Estimate | NoVerdict
) -> ArmAnswer:
    statistics = arm.metrics[metric.key]
    moments, quantile = statistics.moments, statistics.quantile
    # A mean is right to 16 digits, so the last one of its product is noise: 10293926.999999998.
    sums = [finite(float(f"{mean * moments.units:.15g}")) for mean in moments.means]
    seen = None if quantile is None or isinstance(quantile, NoVerdict) else quantile
    # A quantile is known before its interval is.
    value = seen.value if seen else None
    spread = error = None
    if isinstance(estimate, Estimate):
        value = estimate.value
        if estimate.units > 1 and estimate.unit_variance >= 0:
            spread = math.sqrt(estimate.unit_variance)
            error = estimate.standard_error
    return ArmAnswer(
        variation=key,
        units=arm.units,
        value=finite(value),
        mean=finite(value),
        sd=finite(spread),
        sum=None if seen or not sums else sums[0],
        se=finite(error),
        ci=bounds(seen.ends) if seen else None,
        denominator_sum=sums[1] if metric.metric.kind == "ratio" and len(sums) > 1 else None,
    )


def comparison_answer(
    found: Compared,
    baseline: str,
    adjusted_p: float | None = None,
    adjusted_always_p: float | None = None,
) -> ComparisonAnswer:
    reasons = _Reasons()
    comparison = found.comparison
    known = None if isinstance(comparison, NoVerdict) else comparison
    absolute = reasons.unless("absolute", comparison, lambda one: effect_answer(one.absolute))
    relative = reasons.unless("relative", comparison, lambda one: _relative(one.relative))
    tested = known if absolute is not None else None
    guarded = found.guarded
    stratified = found.stratified
    return ComparisonAnswer(
        variation=found.variation,
        baseline=baseline,
        absolute=absolute,
        relative=relative,
        p_value=tested.p_value if tested else None,
        adjusted_p_value=adjusted_p if tested else None,
        sequential=reasons.unless(
            "sequential", found.always_valid, lambda one: _sequential(one, adjusted_always_p)
        ),
        bayesian=reasons.unless("bayesian", found.posterior, _bayesian),
        cuped=reasons.unless("cuped", found.cuped, _adjusted),
        stratified=None
        if stratified is None
        else reasons.unless("stratified", stratified, _adjusted),
        guardrail=None
        if guarded is None
        else reasons.unless("guardrail", guarded, lambda one: _guardrail(one, found.metric)),
        power=reasons.unless("power", found.power, lambda one: _power(one, reasons)),
        statistic=finite(tested.statistic) if tested else None,
        degrees=finite(tested.degrees) if tested else None,
        no_verdict=None if tested else reasons.found["absolute"],
        no_verdicts=reasons.found,
    )


class _Reasons:
    """Why fields are null, by their names."""

    def __init__(self) -> None:
        self.found: dict[str, NoVerdictAnswer] = {}

    def unless(
        self, name: str, result: Result | NoVerdict, show: Callable[[Result], Shown | NoVerdict]
    ) -> Shown | None:
        """The result as it is shown, or null with the reason noted."""
        answer = result if isinstance(result, NoVerdict) else show(result)
        if isinstance(answer, NoVerdict):
            self.found[name] = why(answer)
            return None
        return answer


def effect_answer(effect: Effect) -> EffectAnswer | NoVerdict:
    if not math.isfinite(effect.value):
        return NOT_FINITE
    return EffectAnswer(effect=effect.value, ci=bounds(effect.interval))


def _relative(effect: Effect | NoVerdict) -> EffectAnswer | NoVerdict:
    return effect if isinstance(effect, NoVerdict) else effect_answer(effect)


def _sequential(found: AlwaysValid, adjusted_p: float | None = None) -> SequentialAnswer:
    return SequentialAnswer(
        p_value=found.p_value, ci=bounds(found.interval), adjusted_p_value=adjusted_p
    )


def _bayesian(found: Posterior) -> BayesianAnswer | NoVerdict:
    numbers = (found.mean, found.expected_loss, found.expected_loss_of_baseline)
    if not all(math.isfinite(number) for number in numbers):
        return NOT_FINITE
    return BayesianAnswer(
        chance_to_beat_baseline=found.chance_to_beat_baseline,
        expected_loss=found.expected_loss,
        expected_loss_of_baseline=found.expected_loss_of_baseline,
        effect=found.mean,
        ci=bounds(found.interval),
        prior_mean=found.prior.mean,
        prior_sd=finite(found.prior.deviation),
    )


def _adjusted(found: LessNoise) -> AdjustedAnswer | NoVerdict:
    absolute = effect_answer(found.comparison.absolute)
    if isinstance(absolute, NoVerdict):
        return absolute
    relative = _relative(found.comparison.relative)
    always = found.always_valid
    return AdjustedAnswer(
        absolute=absolute,
        relative=None if isinstance(relative, NoVerdict) else relative,
        p_value=found.comparison.p_value,
        sequential=None if isinstance(always, NoVerdict) else _sequential(always),
        variance_reduction=found.variance_reduction,
        theta=finite(found.theta),
        merged_segments=found.merged,
    )


def _guardrail(found: Guarded, metric: ReportMetric) -> GuardrailAnswer | NoVerdict:
    limit = metric.limit
    if limit is None or not math.isfinite(found.excess):
        return NOT_FINITE
    always = found.any_time
    return GuardrailAnswer(
        limit=limit.margin,
        harm="increase" if limit.higher_is_worse else "decrease",
        excess=found.excess,
        at_horizon=_guardrail_bound(found.at_horizon),
        any_time=None if isinstance(always, NoVerdict) else _guardrail_bound(always),
    )


def _guardrail_bound(answer: Answer) -> GuardrailBound:
    return GuardrailBound(
        status=answer.status,
        p_breached=answer.p_breached,
        p_holds=answer.p_holds,
        ci=bounds(answer.excess),
    )


def _power(found: Power, reasons: _Reasons) -> PowerAnswer | NoVerdict:
    if not math.isfinite(found.detectable):
        return NOT_FINITE
    days = found.days_to_go
    if isinstance(days, NoVerdict):
        reasons.found["days_to_go"] = why(days)
        days = math.nan
    return PowerAnswer(
        minimum_detectable_effect=found.detectable,
        minimum_detectable_relative=finite(found.detectable_relative),
        at_planned_units=finite(found.at_planned_units),
        units_needed=finite(found.units_needed),
        days_to_go=finite(days),
    )
