"""Which metrics does a report have, in which roles, and what does each arm say of them?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from anabranch.definitions import Definition, Guardrail
from analysis import quantiles
from analysis.estimates import NO_UNITS, NOT_FINITE, Estimate, Proportion, mean
from analysis.guardrail import Limit
from analysis.metric_catalogue import BUILT_IN, Metric
from analysis.ratios import ratio
from analysis.report_document import Role
from analysis.unit_statistics import ArmStatistics, MetricStatistics
from analysis.verdict import NoVerdict


@dataclass(frozen=True, slots=True)
class ReportMetric:
    key: str
    metric: Metric
    roles: tuple[Role, ...]
    guardrail: Guardrail | None = None
    is_declared: bool = True
    """By the definition; others are there to be seen, and decide nothing."""

    @property
    def role(self) -> Role:
        """The one that weighs most."""
        return self.roles[0]

    @property
    def is_tested(self) -> bool:
        """Guardrails have to hold all of them, so they are in no family of tests."""
        return self.roles != ("guardrail",)

    @property
    def limit(self) -> Limit | None:
        guardrail = self.guardrail
        if guardrail is None:
            return None
        if guardrail.max_relative_increase is not None:
            return Limit(guardrail.max_relative_increase)
        return Limit(guardrail.max_relative_decrease or 0.0, higher_is_worse=False)


class Selected(NamedTuple):
    metrics: tuple[ReportMetric, ...]
    unknown: tuple[str, ...]
    """Declared or asked for, and defined by nobody."""


def select(
    definition: Definition, catalogue: Mapping[str, Metric], asked: Iterable[str] = ()
) -> Selected:
    """Those that the definition declares, in the order of their roles, then others asked for. All
    measurements of turns where neither names any. `catalogue` holds what people defined."""
    known = {**catalogue, **BUILT_IN}
    declared = definition.metrics
    guardrails = {one.metric: one for one in declared.guardrails}
    own = {*declared.primary, *guardrails, *declared.secondary}
    named = [*declared.primary, *guardrails, *declared.secondary, *asked]
    if not named:
        named = [key for key, one in BUILT_IN.items() if one.source and one.source.turn]
    found = []
    for key in dict.fromkeys(named):
        roles: list[Role] = ["primary"] if key in declared.primary else []
        roles += ["guardrail"] if key in guardrails else []
        roles += ["secondary"] if key in declared.secondary or not roles else []
        if key in known:
            is_declared = key in own
            found.append(
                ReportMetric(key, known[key], tuple(roles), guardrails.get(key), is_declared)
            )
    unknown = tuple(key for key in dict.fromkeys(named) if key not in known)
    return Selected(tuple(found), unknown)


def estimate_of(
    metric: Metric, arm: ArmStatistics, statistics: MetricStatistics
) -> Estimate | NoVerdict:
    """Of one arm. Too few units or no variance show when arms are compared."""
    if not arm.units:
        return NO_UNITS
    moments = statistics.moments
    match metric.kind:
        case "proportion":
            found = proportion_of(statistics)
            return found if isinstance(found, NoVerdict) else found.estimate()
        case "ratio":
            return ratio(moments)
        case "quantile":
            seen = statistics.quantile
            if seen is None or isinstance(seen, NoVerdict):
                return seen or NO_UNITS
            return quantiles.estimate(arm.units, seen.value, seen.ends, seen.coverage)
        case "mean" | "count":
            return mean(moments.one(0))


def proportion_of(statistics: MetricStatistics) -> Proportion | NoVerdict:
    moments = statistics.moments
    successes = moments.means[0] * moments.units
    if not 0 <= successes <= moments.units + 0.5:
        return NOT_FINITE
    return Proportion(moments.units, round(successes))


def method_of(metric: Metric, arms: Sequence[MetricStatistics]) -> str:
    """How arms are compared, and what the interval of a quantile comes from."""
    match metric.kind:
        case "proportion":
            return "score"
        case "ratio":
            return "welch_delta"
        case "quantile":
            used = {
                one.quantile.method.value
                for one in arms
                if one.quantile is not None and not isinstance(one.quantile, NoVerdict)
            }
            return "welch_" + "_and_".join(sorted(used) or ["order_statistics"])
        case "mean" | "count":
            return "welch"
