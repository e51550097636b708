"""What a report is: the document that the API, the command line and exports show.

Its JSON is `report.model_dump_json(by_alias=True)`: a field is called `from` there.

Every figure is a finite number, or null beside a reason: see `no_verdict` and `no_verdicts`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field

from analysis.corrections import Correction, Family
from analysis.decision import Action
from analysis.guardrail import Status
from analysis.metric_catalogue import Direction, Kind
from analysis.unit_statistics import Multiple
from analysis.verdict import NoVerdictReason

Number = Annotated[float, AllowInfNan(False)]
Role = Literal["primary", "secondary", "guardrail"]
Verdict = Literal["ok", "warning", "bad"]
Bounds = tuple[Number | None, Number | None]
"""Low and high; null for an end that is not bounded."""


class Shown(BaseModel):
    """A part of the document: never changed in place."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class NoVerdictAnswer(Shown):
    reason: NoVerdictReason = Field(description="For programs.")
    sentence: str = Field(description="For people.")


class EffectAnswer(Shown):
    effect: Number = Field(description="How much more than the baseline; relative: 0.05 for 5 %.")
    ci: Bounds = Field(description="The interval at the report's level.")


class SequentialAnswer(Shown):
    p_value: Number = Field(description="Holds however often one looks.")
    ci: Bounds = Field(description="Of the absolute effect; holds at all looks together.")
    adjusted_p_value: Number | None = Field(None, description="Corrected for its family.")


class BayesianAnswer(Shown):
    chance_to_beat_baseline: Number = Field(
        description="That it is better; higher, for a metric of no direction."
    )
    expected_loss: Number = Field(description="Of choosing it, on average, in the metric's unit.")
    expected_loss_of_baseline: Number = Field(description="Of staying with the baseline.")
    effect: Number = Field(description="The posterior's mean.")
    ci: Bounds = Field(description="Credible interval of the absolute effect.")
    prior_mean: Number = Field(description="Of the normal prior of the absolute effect.")
    prior_sd: Number | None = Field(description="Its standard deviation; null for a flat prior.")


class AdjustedAnswer(Shown):
    """The effect with less noise: by the past of units, or within segments."""

    absolute: EffectAnswer
    relative: EffectAnswer | None = Field(description="Null where `no_verdicts` says why.")
    p_value: Number
    sequential: SequentialAnswer | None = Field(description="Null below 100 units in an arm.")
    variance_reduction: Number = Field(description="The share of the variance that is gone.")
    theta: Number | None = Field(None, description="CUPED's slope; null for segments.")
    merged_segments: tuple[str, ...] = Field((), description="Too small ones, taken as one.")


class GuardrailBound(Shown):
    status: Status = Field(description="breached: harm is shown. holds: its absence is. open.")
    p_breached: Number = Field(description="Small when the harm has passed the limit.")
    p_holds: Number = Field(description="Small when the harm is within the limit.")
    ci: Bounds = Field(description="One-sided bounds of the harm beyond the limit.")


class GuardrailAnswer(Shown):
    limit: Number = Field(description="The relative change that is allowed, 0.05 for 5 %.")
    harm: Literal["increase", "decrease"] = Field(description="Which way is worse.")
    excess: Number = Field(description="Harm beyond the limit, in the metric's unit.")
    at_horizon: GuardrailBound = Field(description="For one look at the planned end.")
    any_time: GuardrailBound | None = Field(description="For any look; null before 100 units.")


class PowerAnswer(Shown):
    """By the experiment's own variance, for 80 % power."""

    minimum_detectable_effect: Number = Field(description="Absolute, with the units of now.")
    minimum_detectable_relative: Number | None = Field(
        description="As a share of the baseline; null where that is not above zero."
    )
    at_planned_units: Number | None = Field(
        description="The minimum detectable effect at the planned units; null without a plan."
    )
    units_needed: Number | None = Field(
        description="In both arms, to see the effect of now; null for an effect of zero."
    )
    days_to_go: Number | None = Field(
        description="Until the planned units, or those needed without a plan, are there at the "
        "rate of now; null when they never are."
    )


class ComparisonAnswer(Shown):
    variation: str
    baseline: str
    absolute: EffectAnswer | None
    relative: EffectAnswer | None
    p_value: Number | None = Field(description="For one look, at the planned end.")
    adjusted_p_value: Number | None = Field(description="Corrected for its family; null outside.")
    sequential: SequentialAnswer | None
    bayesian: BayesianAnswer | None
    cuped: AdjustedAnswer | None
    stratified: AdjustedAnswer | None = Field(None, description="Within the report's segments.")
    guardrail: GuardrailAnswer | None = Field(None, description="Where one is declared.")
    power: PowerAnswer | None = None
    statistic: Number | None = Field(None, description="Of the test.")
    degrees: Number | None = Field(None, description="Of freedom; null for a normal one.")
    no_verdict: NoVerdictAnswer | None = Field(None, description="Why there is no effect at all.")
    no_verdicts: dict[str, NoVerdictAnswer] = Field(
        default_factory=dict, description="By field, such as `relative`: why it is null."
    )


class ArmAnswer(Shown):
    variation: str
    units: int
    value: Number | None = Field(description="What is compared: a mean, share, ratio or quantile.")
    mean: Number | None = Field(description="Of units' values; of a ratio or quantile, its value.")
    sd: Number | None = Field(description="Standard deviation that one unit contributes.")
    sum: Number | None = Field(description="Over units; of a ratio's numerator.")
    se: Number | None = Field(description="Standard error of the value.")
    ci: Bounds | None = Field(
        None, description="Of the value, for quantiles: at 95 %, since its error comes of it."
    )
    denominator_sum: Number | None = Field(None, description="Of a ratio.")


class MetricAnswer(Shown):
    metric: str = Field(description="Its key.")
    name: str
    kind: Kind
    role: Role
    roles: tuple[Role, ...] = Field(description="All of them: a guardrail may be primary, too.")
    direction: Direction | None = Field(description="Which way is better.")
    method: str = Field(description="How arms are compared, such as `welch` or `score`.")
    cap: Number | None = Field(None, description="Units' values above count as it.")
    denominator_cap: Number | None = None
    conversion_window_hours: Number | None = None
    arms: tuple[ArmAnswer, ...]
    comparisons: tuple[ComparisonAnswer, ...]
    no_verdict: NoVerdictAnswer | None = Field(description="When no variation could be compared.")


class VariationAnswer(Shown):
    key: str
    units: int
    exposures: int
    weight: int = Field(description="Of now, in parts of 10,000.")


class SegmentAnswer(Shown):
    by: str
    value: str = Field(description="Empty for units of which it is not known.")
    variations: tuple[VariationAnswer, ...]
    metrics: tuple[MetricAnswer, ...]


class HealthFinding(Shown):
    name: str = Field(description="Such as `sample_ratio`, `multiple_exposures`, `late_events`.")
    verdict: Verdict
    sentence: str = Field(description="What was found.")
    what_to_do: str = Field("", description="Empty when there is nothing to do.")
    forbids_decision: bool = Field(False, description="No number counts before it is mended.")
    figures: dict[str, int | Number | str | None] = Field(
        default_factory=dict, description="What the sentence was made from."
    )


class SampleRatioAnswer(Shown):
    p_value: Number | None
    verdict: Verdict


class HealthAnswer(Shown):
    verdict: Verdict = Field(description="The worst of the findings; bad forbids a decision.")
    srm: SampleRatioAnswer | None = Field(description="Sample-ratio mismatch; null: not tested.")
    multiple_exposures: int = Field(description="Units exposed to more than one variation.")
    unknown_variations: dict[str, int] = Field(
        description="Units of variations that the definition does not have, by variation."
    )
    findings: tuple[HealthFinding, ...]


class PeriodAnswer(Shown):
    from_: datetime | None = Field(
        alias="from", serialization_alias="from", description="Of first exposures."
    )
    to: datetime | None = Field(description="Of first exposures; this moment is not in it.")
    first_exposure: datetime | None
    last_first_exposure: datetime | None = Field(description="When the newest unit came.")
    versions: tuple[int, int] | None = Field(
        None,
        description="Of the definition, by which units were first exposed: from and to, both "
        "included. Those of the weights of now; null: all of the period, since the weights never "
        "changed or the period was asked for.",
    )
    days: Number = Field(
        description="Since the first exposure; of an experiment that is over, until its newest "
        "unit came."
    )


class FreshnessAnswer(Shown):
    watermark: datetime | None
    applied_at: datetime | None
    lag_seconds: Number | None
    late_events: int = 0
    dead_letters: int = 0


class AppliedOffset(Shown):
    topic: str
    partition: int
    epoch: str
    offset: int = Field(description="The last one applied.")


class OriginAnswer(Shown):
    """From what the report was made."""

    definition_version: int
    code_version: str
    offsets: tuple[AppliedOffset, ...]


class MethodAnswer(Shown):
    """How what is shown was made. The decision and its reasons are always by the metrics of the
    definition, at 95 %, corrected by Holm over all of them and all variations."""

    level: Number
    family: Family | None = Field(
        description="What is corrected together; null: all metrics and variations, each segment "
        "by itself."
    )
    correction: Correction
    multiple: Multiple
    planned_units: int | None = Field(description="That sequential results are tuned for.")


class DecisionAnswer(Shown):
    action: Action
    variation: str | None = Field(description="Which to ship or to take out.")
    reasons: tuple[str, ...]


class Report(Shown):
    id: str | None = Field(None, description="Under which these bytes can be had again.")
    experiment: str
    version: int
    status: str
    period: PeriodAnswer
    freshness: FreshnessAnswer
    health: HealthAnswer
    method: MethodAnswer
    variations: tuple[VariationAnswer, ...]
    metrics: tuple[MetricAnswer, ...]
    segments: tuple[SegmentAnswer, ...]
    decision: DecisionAnswer
    origin: OriginAnswer | None = None
