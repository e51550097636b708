"""From what is known of units to the report: effects, health, and what to do.

Pure: whoever calls it has asked the engine before, and says what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from anabranch.definitions import Definition
from analysis.bayes import Prior
from analysis.corrections import Correction, Family, Question, adjusted
from analysis.decision import Rule
from analysis.health import Health
from analysis.report_answers import comparison_answer, metric_answer
from analysis.report_comparisons import Arms, Compared, Plan, compared
from analysis.report_document import (
    ComparisonAnswer,
    FreshnessAnswer,
    MethodAnswer,
    MetricAnswer,
    PeriodAnswer,
    Report,
    SegmentAnswer,
    VariationAnswer,
)
from analysis.report_judgement import Judged, Tested, decision_of, health_of
from analysis.report_metrics import ReportMetric, Selected
from analysis.unit_statistics import UnitStatistics
from analysis.verdict import NoVerdict

OVER = ("stopped", "archived", "deleted")
"""Statuses in which no more units come."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is reported on, as it stands now."""

    definition: Definition
    version: int
    status: str
    now: datetime
    freshness: FreshnessAnswer
    health: Health
    """What was found in the data; what follows from effects is added to it."""
    ran_its_time: bool = False
    """It has ended at the time that was set before, and not sooner."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """But for the rule, all of it changes what is shown, and never the decision or the health."""

    level: float = 0.95
    family: Family | None = None
    """None: all metrics and variations, each segment by itself."""
    correction: Correction = Correction.HOLM
    prior: Prior | None = None
    rule: Rule | None = None
    shown: frozenset[str] = frozenset()
    """Metrics to show; all when empty."""


DEFAULT_OPTIONS = ReportOptions()


def report_of(
    subject: Subject,
    selected: Selected,
    statistics: UnitStatistics,
    options: ReportOptions = DEFAULT_OPTIONS,
) -> Report:
    """`statistics` have the selected metrics and the definition's variations."""
    plan, rule = _plan(subject, statistics, options), options.rule or Rule()
    parts: dict[str, Arms] = {"": statistics.arms}
    # A segment may have an empty value, as all units together have.
    parts |= {f"={value}": arms for value, arms in statistics.segments.items()}
    results = {
        part: _compared(selected.metrics, arms, plan, statistics, whole=not part)
        for part, arms in parts.items()
    }
    tested = Tested(
        _p_values(results, options, always=False), _p_values(results, options, always=True)
    )
    shown = [
        metric for metric in selected.metrics if not options.shown or metric.key in options.shown
    ]
    answers = {
        part: _metric_answers(part, arms, shown, results[part], tested, statistics, plan)
        for part, arms in parts.items()
    }
    judged = _judged(subject, selected, statistics, replace(plan, level=rule.level))
    return Report(
        experiment=subject.definition.key,
        version=subject.version,
        status=subject.status,
        period=PeriodAnswer(
            from_=statistics.request.since,
            to=statistics.request.until,
            first_exposure=statistics.first_exposure,
            last_first_exposure=statistics.last_first_exposure,
            versions=statistics.request.versions,
            days=plan.days,
        ),
        freshness=subject.freshness,
        health=health_of(judged),
        method=MethodAnswer(
            level=options.level,
            family=options.family,
            correction=options.correction,
            multiple=statistics.request.multiple,
            planned_units=subject.definition.planned_units,
        ),
        variations=_variations(statistics.arms, plan),
        metrics=answers[""],
        segments=tuple(
            SegmentAnswer(
                by=statistics.request.by or "",
                value=value,
                variations=_variations(arms, plan),
                metrics=answers[f"={value}"],
            )
            for value, arms in statistics.segments.items()
        ),
        decision=decision_of(judged, rule),
    )


def _judged(subject: Subject, selected: Selected, statistics: UnitStatistics, plan: Plan) -> Judged:
    """By the metrics of the definition and the level of the rule, whatever the caller wants to see:
    else one could ask until the answer is the wanted one."""
    own = [metric for metric in selected.metrics if metric.is_declared]
    found = _compared(own, statistics.arms, plan, statistics, whole=False)
    standard = ReportOptions()
    tested = Tested(
        _p_values({"": found}, standard, always=False),
        _p_values({"": found}, standard, always=True),
    )
    return Judged(statistics, found, plan, tested, subject.health, selected.unknown)


def _plan(subject: Subject, statistics: UnitStatistics, options: ReportOptions) -> Plan:
    definition, first = subject.definition, statistics.first_exposure
    is_open = subject.status not in OVER
    # The days after a stop are no days of the experiment.
    last = None if is_open else statistics.last_first_exposure
    until = min(last or subject.now, statistics.request.until or subject.now)
    days = max(timedelta(), until - first) / timedelta(days=1) if first else 0.0
    return Plan(
        baseline=definition.variations[0].key,
        weights={variation.key: variation.weight for variation in definition.variations},
        planned_units=definition.planned_units,
        days=days,
        is_open=is_open,
        ran_its_time=subject.ran_its_time,
        level=options.level,
        prior=options.prior,
    )


def _compared(
    metrics: Sequence[ReportMetric],
    arms: Arms,
    plan: Plan,
    statistics: UnitStatistics,
    *,
    whole: bool,
) -> list[Compared]:
    return [
        compared(
            metric,
            key,
            arms,
            plan,
            segments=statistics.segments if whole else None,
            without_past=statistics.without_past.get(metric.key),
        )
        for metric in metrics
        for key in arms
        if key != plan.baseline
    ]


def _p_values(
    results: Mapping[str, Sequence[Compared]], options: ReportOptions, *, always: bool
) -> dict[Question, float]:
    """Corrected for the family; of tested metrics with a verdict."""
    found: dict[Question, float] = {}
    for part, comparisons in results.items():
        for one in comparisons:
            result = one.always_valid if always else one.comparison
            if one.metric.is_tested and not isinstance(result, NoVerdict):
                found[Question(one.metric.key, one.variation, part)] = result.p_value
    if options.family is not None:
        return adjusted(found, options.family, options.correction)
    corrected: dict[Question, float] = {}
    for part in results:
        of_part = {question: p for question, p in found.items() if question.segment == part}
        corrected |= adjusted(of_part, Family.ALL, options.correction)
    return corrected


def _metric_answers(
    part: str,
    arms: Arms,
    metrics: Sequence[ReportMetric],
    comparisons: Sequence[Compared],
    tested: Tested,
    statistics: UnitStatistics,
    plan: Plan,
) -> tuple[MetricAnswer, ...]:
    shown: dict[str, list[ComparisonAnswer]] = {metric.key: [] for metric in metrics}
    for one in comparisons:
        if one.metric.key in shown:
            question = Question(one.metric.key, one.variation, part)
            once, always = tested.once.get(question), tested.always.get(question)
            shown[one.metric.key].append(comparison_answer(one, plan.baseline, once, always))
    return tuple(
        metric_answer(metric, arms, shown[metric.key], statistics.caps) for metric in metrics
    )


def _variations(arms: Arms, plan: Plan) -> tuple[VariationAnswer, ...]:
    return tuple(
        VariationAnswer(key=key, units=arm.units, exposures=arm.exposures, weight=plan.weights[key])
        for key, arm in arms.items()
    )
