"""What do the effects and the data's health say together: may one decide, and what?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis import health_effects
from analysis.corrections import Question
from analysis.decision import Finding, GuardrailFinding, Rule, Situation, Unfound, decide
from analysis.health import Health, Name, Verdict, multiple_exposures
from analysis.report_comparisons import Compared, Plan, estimates
from analysis.report_document import (
    DecisionAnswer,
    HealthAnswer,
    HealthFinding,
    SampleRatioAnswer,
)
from analysis.unit_statistics import Multiple, UnitStatistics
from analysis.verdict import NoVerdict, NoVerdictReason

NO_DIRECTION = NoVerdict(
    NoVerdictReason.NO_DIRECTION,
    "neither more nor less of it is better by itself, so it cannot decide; declare a metric that "
    "has a direction as primary.",
)


@dataclass(frozen=True, slots=True)
class Tested:
    """P-values of all tests with a verdict, each corrected for its family."""

    once: Mapping[Question, float]
    always: Mapping[Question, float]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is judged: the comparisons of all units together, in the definition's metrics and at
    the rule's level."""

    statistics: UnitStatistics
    comparisons: Sequence[Compared]
    plan: Plan
    tested: Tested
    health: Health
    unknown_metrics: Sequence[str]

    @property
    def guardrails(self) -> list[GuardrailFinding]:
        return [
            GuardrailFinding(one.metric.key, one.variation, one.guarded)
            for one in self.comparisons
            if one.guarded is not None
        ]

    @property
    def primary(self) -> list[Compared]:
        return [one for one in self.comparisons if "primary" in one.metric.roles]

    @property
    def situation(self) -> Situation:
        return Situation(
            baseline=self.plan.baseline,
            units={key: arm.units for key, arm in self.statistics.arms.items()},
            days=self.plan.days,
            planned_units=self.plan.planned_units,
            ended=not self.plan.is_open,
            health_problems=_complete(self).problems,
            primary=[_finding(one, self.tested) for one in self.primary],
            guardrails=self.guardrails,
            ran_its_time=self.plan.ran_its_time,
        )


def decision_of(judged: Judged, rule: Rule) -> DecisionAnswer:
    decision = decide(judged.situation, rule)
    return DecisionAnswer(
        action=decision.action, variation=decision.variation, reasons=decision.reasons
    )


def health_of(judged: Judged) -> HealthAnswer:
    health = _complete(judged)
    health += health_effects.guardrails(judged.guardrails, at_horizon=judged.situation.at_horizon)
    health += health_effects.underpowered(_planned(judged))
    findings = [
        HealthFinding(
            name=one.name.value,
            verdict=one.verdict.value,
            sentence=one.sentence,
            what_to_do=one.what_to_do,
            forbids_decision=one.forbids_decision,
            figures=dict(one.figures),
        )
        for one in health.findings
    ]
    findings += _strangers(judged)
    verdicts = {one.verdict for one in findings}
    ratios = health.of(Name.SAMPLE_RATIO)
    return HealthAnswer(
        verdict="bad" if "bad" in verdicts else "warning" if "warning" in verdicts else "ok",
        srm=_sample_ratio(ratios[0].verdict, ratios[0].figures.get("p_value")) if ratios else None,
        multiple_exposures=judged.statistics.multiple_exposures,
        unknown_variations=dict(judged.statistics.unknown_variations),
        findings=tuple(findings),
    )


def _sample_ratio(verdict: Verdict, p_value: object) -> SampleRatioAnswer:
    known = float(p_value) if isinstance(p_value, int | float) else None
    return SampleRatioAnswer(p_value=known, verdict=verdict.value)


def _finding(one: Compared, tested: Tested) -> Finding | Unfound:
    metric, direction = one.metric.key, one.metric.metric.direction
    if isinstance(one.comparison, NoVerdict):
        return Unfound(metric, one.variation, one.comparison)
    if direction is None:
        return Unfound(metric, one.variation, NO_DIRECTION)
    question = Question(metric, one.variation)
    effect = one.comparison.absolute.value
    always = one.always_valid
    return Finding(
        metric,
        one.variation,
        effect if direction == "up" else -effect,
        tested.once[question],
        always if isinstance(always, NoVerdict) else tested.always[question],
    )


def _planned(judged: Judged) -> list[health_effects.Planned]:
    found = []
    for one in judged.primary:
        of = estimates(one.metric, judged.statistics.arms)
        baseline, arm = of[judged.plan.baseline], of[one.variation]
        if isinstance(baseline, NoVerdict) or isinstance(arm, NoVerdict):
            continue
        units = judged.plan.planned_for(one.variation)
        found.append(health_effects.Planned(one.metric.key, one.variation, baseline, arm, units))
    return found


def _complete(judged: Judged) -> Health:
    """With what the statistics themselves show, where nobody has said it yet."""
    health = judged.health
    if health.of(Name.MULTIPLE_EXPOSURES):
        return health
    statistics = judged.statistics
    units = sum(arm.units for arm in statistics.arms.values())
    several = statistics.multiple_exposures
    if statistics.request.multiple is Multiple.EXCLUDE:
        units += several
    health += [multiple_exposures(units, several)]
    return health


def _strangers(judged: Judged) -> list[HealthFinding]:
    """What nobody has defined: it is in no figure, so it has to be said."""
    found = []
    if judged.unknown_metrics:
        names = ", ".join(judged.unknown_metrics)
        found.append(
            HealthFinding(
                name="unknown_metrics",
                verdict="warning",
                sentence=f"Nobody has defined these metrics, so the report lacks them: {names}.",
                what_to_do="Define them in the metric catalogue, or take them out of the "
                "experiment.",
            )
        )
    unknown = judged.statistics.unknown_variations
    if unknown:
        units = sum(unknown.values())
        names = ", ".join(sorted(unknown))
        found.append(
            HealthFinding(
                name="unknown_variations",
                verdict="warning",
                sentence=f"{units:,} units met variations that the definition does not have: "
                f"{names}. They are in no figure.",
                what_to_do="Look for services with an old or another definition, or for a "
                "variation that was taken out while it had units.",
                figures={"units": units},
            )
        )
    return found
