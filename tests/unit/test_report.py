"""A report's body from statistics of units that were drawn here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import stats

from anabranch.definitions import Definition
from analysis.corrections import Correction, Family, holm
from analysis.health import Finding, Health, Name, Verdict
from analysis.metric_catalogue import BUILT_IN, Metric, Source
from analysis.moments import JointMoments
from analysis.report import ReportOptions, Subject, report_of
from analysis.report_document import FreshnessAnswer, MetricAnswer, Report
from analysis.report_metrics import select
from analysis.unit_statistics import (
    ArmStatistics,
    MetricStatistics,
    QuantileMethod,
    QuantileStatistics,
    StatisticsRequest,
    UnitStatistics,
)
from analysis.verdict import Interval, NoVerdict, NoVerdictReason

NOW = datetime(2026, 5, 20, tzinfo=UTC)
FRESH = FreshnessAnswer(watermark=NOW, applied_at=NOW, lag_seconds=0.5)
CATALOGUE = {
    "revenue": Metric(kind="mean", source=Source(outcome="revenue"), direction="up"),
    "bought": Metric(kind="proportion", source=Source(outcome="revenue"), direction="up"),
    "per_turn": Metric(
        kind="ratio",
        numerator=Source(turn="retries"),
        denominator=Source(turn="turn_ms"),
        direction="down",
    ),
}

ARMS = (("control", 0.0, 1), ("warm", 2.0, 2))
"""Key, gain and seed."""
NO_PAST = NoVerdict(NoVerdictReason.NO_COVARIATE, "Nothing is known.")

Columns = Sequence[Any]
"""Of one metric in one arm: a value for each unit, in each column."""


def definition(*, primary: Sequence[str] = ("revenue",), **fields: Any) -> Definition:
    metrics = {"primary": list(primary), **fields.pop("metrics", {})}
    keys = fields.pop("variations", ("control", "warm"))
    weights = [10_000 // len(keys)] * len(keys)
    weights[0] += 10_000 - sum(weights)
    variations = [{"key": key, "weight": w} for key, w in zip(keys, weights, strict=True)]
    return Definition.model_validate(
        {"key": "npc_tone", "variations": variations, "metrics": metrics, **fields}
    )


def statistics(
    arms: Mapping[str, Mapping[str, Columns]],
    segments: Mapping[str, Mapping[str, Mapping[str, Columns]]] | None = None,
    **also: Any,
) -> UnitStatistics:
    def arm(metrics: Mapping[str, Columns]) -> ArmStatistics:
        found = {key: MetricStatistics(JointMoments.of(*one)) for key, one in metrics.items()}
        units = next(iter(found.values())).moments.units
        return ArmStatistics(units, 2 * units, found)

    by = "locale" if segments else None
    given: dict[str, Any] = {
        "first_exposure": NOW - timedelta(days=10),
        "last_first_exposure": NOW,
        **also,
    }
    return UnitStatistics(
        StatisticsRequest("npc_tone", tuple(arms), CATALOGUE, by=by),
        {key: arm(metrics) for key, metrics in arms.items()},
        {
            value: {key: arm(metrics) for key, metrics in of.items()}
            for value, of in (segments or {}).items()
        },
        **given,
    )


def report(
    known: UnitStatistics,
    what: Definition | None = None,
    options: ReportOptions | None = None,
    health: Health | None = None,
    status: str = "running",
) -> Report:
    what = what or definition()
    subject = Subject(what, 3, status, NOW, FRESH, health or Health())
    body = report_of(subject, select(what, CATALOGUE), known, options or ReportOptions())
    assert "NaN" not in body.model_dump_json()
    assert Report.model_validate_json(body.model_dump_json(by_alias=True)) == body
    return body


def metric(body: Report, key: str) -> MetricAnswer:
    return next(one for one in body.metrics if one.metric == key)


def drawn(mean: float, units: int = 2_000, seed: int = 1) -> Any:
    # The past foretells three quarters of the value.
    random = np.random.default_rng(seed)
    before = random.gamma(4, 2, units)
    return before + random.gamma(2, 2, units) + mean, before


def test_report_compares_as_welch_does_when_a_metric_is_a_mean() -> None:
    control, warm = drawn(0, seed=1), drawn(0.5, seed=2)
    one = metric(
        report(statistics({"control": {"revenue": control}, "warm": {"revenue": warm}})), "revenue"
    )
    (compared,) = one.comparisons
    truth = stats.ttest_ind(warm[0], control[0], equal_var=False)
    assert compared.absolute
    assert compared.relative
    assert compared.sequential
    assert compared.cuped
    assert compared.p_value == pytest.approx(truth.pvalue, rel=1e-9)
    assert compared.absolute.ci == pytest.approx(tuple(truth.confidence_interval()), rel=1e-9)
    assert compared.sequential.p_value > truth.pvalue
    assert compared.cuped.variance_reduction > 0.4
    assert [arm.sum for arm in one.arms] == pytest.approx([control[0].sum(), warm[0].sum()])
    assert one.arms[0].sd == pytest.approx(control[0].std(ddof=1), rel=1e-9)


def test_report_corrects_all_tested_metrics_and_variations_together_by_default() -> None:
    arms = {
        key: {"revenue": drawn(0, seed=i), "bought": [np.arange(2_000) % (5 + i) == 0] * 2}
        for i, key in enumerate(("control", "warm", "cold"), 1)
    }
    what = definition(
        primary=["revenue"], variations=tuple(arms), metrics={"secondary": ["bought"]}
    )
    body = report(statistics(arms), what)
    found = [c for key in ("revenue", "bought") for c in metric(body, key).comparisons]
    once = [c.p_value for c in found if c.p_value is not None]
    assert len(once) == 4
    assert [c.adjusted_p_value for c in found] == holm(once)
    by_variation = report(statistics(arms), what, ReportOptions(family=Family.VARIATIONS))
    revenue = metric(by_variation, "revenue").comparisons
    assert [c.adjusted_p_value for c in revenue] == holm(once[:2])


def test_report_leaves_guardrails_out_of_families_and_answers_them_one_sided() -> None:
    what = definition(
        metrics={"guardrails": [{"metric": "per_turn", "max_relative_increase": 0.05}]}
    )
    random = np.random.default_rng(3)
    turns = random.poisson(10, 2_000) + 1.0
    arms = {
        "control": {"revenue": drawn(0), "per_turn": [random.poisson(turns), turns]},
        "warm": {"revenue": drawn(0), "per_turn": [random.poisson(2 * turns), turns]},
    }
    body = report(statistics(arms, without_past={"per_turn": NO_PAST}), what)
    one = metric(body, "per_turn")
    (compared,) = one.comparisons
    assert one.role == "guardrail"
    assert compared.adjusted_p_value is None
    assert compared.guardrail
    assert compared.guardrail.any_time
    assert compared.guardrail.any_time.status == "breached"
    assert compared.no_verdicts["cuped"].reason is NoVerdictReason.NO_COVARIATE
    assert body.decision.action == "roll_back"
    assert any(one.name == "guardrail" and one.verdict == "bad" for one in body.health.findings)


def test_report_ships_what_is_better_and_not_when_health_is_bad() -> None:
    arms = statistics({"control": {"revenue": drawn(0)}, "warm": {"revenue": drawn(2, seed=2)}})
    assert report(arms).decision.action == "ship"
    bad = Finding(
        Name.SAMPLE_RATIO, Verdict.BAD, "Units are lost.", "Find them.", {"p_value": 1e-9}
    )
    body = report(arms, health=Health((bad,)))
    assert body.decision.action == "no_decision"
    assert body.decision.reasons == ("Units are lost.",)
    assert body.health.srm
    assert body.health.srm.p_value == 1e-9


def test_report_says_so_when_a_primary_metric_has_no_direction() -> None:
    what = definition(primary=["output_tokens"])
    arms = {
        "control": {"output_tokens": [drawn(0)[0]]},
        "warm": {"output_tokens": [drawn(3, seed=2)[0]]},
    }
    body = report(statistics(arms, without_past={"output_tokens": NO_PAST}), what)
    assert body.decision.action == "keep_running"
    assert "cannot decide" in body.decision.reasons[0]


@pytest.mark.parametrize(
    ("control", "warm", "reason"),
    [
        pytest.param([1.0], [2.0, 3.0], "too_few_units", id="one unit"),
        pytest.param([], [2.0, 3.0], "no_units", id="an arm without units"),
        pytest.param([5.0] * 200, [5.0] * 300, "zero_variance", id="zero variance"),
        pytest.param([0.0] * 200, [0.0] * 300, "zero_variance", id="all zero"),
        pytest.param([math.inf, 1.0, 2.0], [2.0, 3.0, 4.0], "not_finite", id="infinities"),
        pytest.param([math.nan, 1.0, 2.0], [2.0, 3.0, 4.0], "not_finite", id="no numbers"),
        pytest.param([1e200, 3e200], [2e200, 4e200], "not_finite", id="squares too large"),
    ],
)
def test_report_has_no_verdict_and_a_reason_when_units_say_nothing(
    control: list[float], warm: list[float], reason: str
) -> None:
    arms = {
        "control": {"revenue": [control, control]},
        "warm": {"revenue": [warm, warm]},
    }
    one = metric(report(statistics(arms)), "revenue")
    assert one.no_verdict
    assert one.no_verdict.reason == reason
    (compared,) = one.comparisons
    assert compared.absolute is None
    assert compared.p_value is None
    assert {"absolute", "relative", "sequential", "bayesian", "cuped", "power"} == set(
        compared.no_verdicts
    )


@pytest.mark.parametrize(
    ("mean", "reason"),
    [
        pytest.param(-1_000.0, "negative_baseline", id="negative baseline"),
        pytest.param(-12.0, "baseline_near_zero", id="baseline near zero"),
    ],
)
def test_report_keeps_the_absolute_effect_when_there_is_no_relative_one(
    mean: float, reason: str
) -> None:
    arms = {"control": {"revenue": drawn(mean)}, "warm": {"revenue": drawn(mean + 1, seed=2)}}
    (compared,) = metric(report(statistics(arms)), "revenue").comparisons
    assert compared.absolute
    assert compared.relative is None
    assert compared.no_verdicts["relative"].reason == reason


def test_report_holds_for_values_of_a_quadrillion() -> None:
    arms = {"control": {"revenue": drawn(1e15)}, "warm": {"revenue": drawn(1e15 + 5, seed=2)}}
    (compared,) = metric(report(statistics(arms)), "revenue").comparisons
    assert compared.absolute
    assert compared.absolute.effect == pytest.approx(5, abs=1)


def test_report_compares_each_of_20_variations_with_the_first() -> None:
    arms = {f"v{i}": {"revenue": drawn(0, 200, seed=i)} for i in range(20)}
    body = report(statistics(arms), definition(variations=tuple(arms)))
    compared = metric(body, "revenue").comparisons
    assert [one.variation for one in compared] == [f"v{i}" for i in range(1, 20)]
    assert all(one.baseline == "v0" for one in compared)


def test_report_has_arms_and_no_comparison_when_there_is_one_variation() -> None:
    body = report(
        statistics({"control": {"revenue": drawn(0)}}), definition(variations=("control",))
    )
    assert metric(body, "revenue").arms[0].units == 2_000
    assert metric(body, "revenue").comparisons == ()


def test_report_compares_within_segments_and_names_them_when_it_is_split() -> None:
    # The locale moves the value far more than the variation does.
    segments = {
        value: {key: {"revenue": drawn(base + gain, 500, seed)} for key, gain, seed in ARMS}
        for value, base in (("", 0), ("en", 50))
    }
    arms = {
        key: {"revenue": list(np.hstack([segments[value][key]["revenue"] for value in segments]))}
        for key, _, _ in ARMS
    }
    body = report(statistics(arms, segments))
    (compared,) = metric(body, "revenue").comparisons
    assert compared.stratified
    assert compared.stratified.variance_reduction > 0.9
    assert [segment.value for segment in body.segments] == ["", "en"]
    assert [segment.variations[0].units for segment in body.segments] == [500, 500]
    (of_segment,) = body.segments[0].metrics[0].comparisons
    # One test a segment, so nothing is corrected there.
    assert of_segment.adjusted_p_value == of_segment.p_value


def test_report_names_what_nobody_defined() -> None:
    what = definition(metrics={"secondary": ["who_knows"]})
    known = statistics(
        {"control": {"revenue": drawn(0)}, "warm": {"revenue": drawn(0, seed=2)}},
        unknown_variations={"lukewarm": 12},
        multiple_exposures=3,
    )
    body = report(known, what)
    found = {one.name: one for one in body.health.findings}
    assert "who_knows" in found["unknown_metrics"].sentence
    assert "12 units met" in found["unknown_variations"].sentence
    assert body.health.multiple_exposures == 3
    assert found["multiple_exposures"].figures["in_several"] == 3


def test_report_shows_the_metrics_asked_for_and_decides_by_the_definitions() -> None:
    arms = {
        key: {"revenue": drawn(gain, seed=seed), "bought": [np.ones(2_000)] * 2}
        for key, gain, seed in ARMS
    }
    what = definition(metrics={"secondary": ["bought"]})
    body = report(statistics(arms), what, ReportOptions(shown=frozenset({"bought"})))
    assert [one.metric for one in body.metrics] == ["bought"]
    assert body.decision.action == "ship"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"level": 0.6}, id="level"),
        pytest.param({"correction": Correction.NONE}, id="correction"),
        pytest.param({"family": Family.VARIATIONS}, id="family"),
        pytest.param({"shown": frozenset({"bought"})}, id="shown"),
    ],
)
def test_report_decides_alike_however_it_is_shown(options: dict[str, Any]) -> None:
    # The guardrail is open at 95 % and would hold at 60 %; the gain is sure of one metric alone.
    arms = {
        key: {
            "revenue": drawn(gain, seed=seed),
            "bought": [np.arange(2_000) % (6 - seed) == 0] * 2,
            "per_turn": [drawn(0.01 * gain, seed=9 + seed)[0], np.full(2_000, 1.0)],
        }
        for key, gain, seed in (("control", 0.0, 1), ("warm", 0.5, 2))
    }
    what = definition(
        metrics={
            "secondary": ["bought"],
            "guardrails": [{"metric": "per_turn", "max_relative_increase": 0.01}],
        }
    )
    known = statistics(arms, without_past={"per_turn": NO_PAST})
    usual, other = report(known, what), report(known, what, ReportOptions(**options))
    assert other.decision == usual.decision
    assert other.health == usual.health
    assert other.metrics != usual.metrics


def test_report_decides_alike_when_another_metric_is_asked_for() -> None:
    arms = {
        key: {"revenue": drawn(gain, seed=seed), "bought": [np.arange(2_000) % 7 == 0] * 2}
        for key, gain, seed in (("control", 0.0, 1), ("warm", 0.45, 2))
    }
    what = definition()
    subject = Subject(what, 3, "running", NOW, FRESH, Health())
    usual = report_of(subject, select(what, CATALOGUE), statistics(arms))
    asked = report_of(subject, select(what, CATALOGUE, ["bought"]), statistics(arms))
    assert [one.metric for one in asked.metrics] == ["revenue", "bought"]
    assert asked.decision == usual.decision


def test_report_tells_days_to_go_by_the_rate_of_arrivals() -> None:
    arms = {"control": {"revenue": drawn(0)}, "warm": {"revenue": drawn(0, seed=2)}}
    (compared,) = metric(
        report(statistics(arms), definition(planned_units=8_000)), "revenue"
    ).comparisons
    assert compared.power
    assert compared.power.days_to_go == pytest.approx(10)
    stopped = report(statistics(arms), definition(planned_units=8_000), status="stopped")
    (compared,) = metric(stopped, "revenue").comparisons
    assert compared.power
    assert compared.power.days_to_go is None
    assert compared.no_verdicts["days_to_go"].reason == "no_arrivals"


def test_report_counts_days_until_the_newest_unit_when_it_is_over() -> None:
    arms = {"control": {"revenue": drawn(0)}, "warm": {"revenue": drawn(2, seed=2)}}
    known = statistics(arms, last_first_exposure=NOW - timedelta(days=9.5))
    assert report(known).period.days == 10
    stopped = report(known, definition(planned_units=100_000), status="stopped")
    assert stopped.period.days == 0.5
    assert stopped.decision.action == "no_decision"
    assert any("stopped early" in reason for reason in stopped.decision.reasons)


def test_report_shows_what_a_quantile_came_from() -> None:
    def arm(value: float) -> ArmStatistics:
        ends = Interval(value - 5, value + 5)
        seen = QuantileStatistics(value, 9_000, ends, 0.95, QuantileMethod.CLUSTERED)
        moments = JointMoments(900, (), ())
        return ArmStatistics(900, 900, {"p90": MetricStatistics(moments, seen)})

    p90 = Metric(kind="quantile", source=Source(turn="turn_ms"), q=0.9, direction="down")
    known = UnitStatistics(
        StatisticsRequest("npc_tone", ("control", "warm"), {"p90": p90}),
        {"control": arm(800), "warm": arm(790)},
        first_exposure=NOW - timedelta(days=10),
    )
    what = definition(primary=["p90"])
    subject = Subject(what, 3, "running", NOW, FRESH, Health())
    one = metric(report_of(subject, select(what, {"p90": p90}), known), "p90")
    assert one.method == "welch_clustered_order_statistics"
    shown = one.arms[0].model_dump()
    assert (shown["value"], shown["ci"], shown["sum"]) == (800, (795, 805), None)
    (compared,) = one.comparisons
    assert compared.absolute
    assert compared.absolute.effect == -10
    assert compared.absolute.ci == pytest.approx((-17.07, -2.93), abs=0.02)
    assert compared.no_verdicts["cuped"].reason == "no_covariate"


def test_select_takes_all_measurements_of_turns_when_nothing_is_declared() -> None:
    chosen = select(definition(primary=[]), CATALOGUE)
    assert len(chosen.metrics) == 10
    assert {one.role for one in chosen.metrics} == {"secondary"}


def test_select_names_the_weightiest_role_first() -> None:
    what = definition(
        primary=[],
        metrics={
            "secondary": ["turn_ms"],
            "guardrails": [{"metric": "turn_ms", "max_relative_increase": 0.05}],
        },
    )
    (one,) = select(what, {}).metrics
    assert one.metric is BUILT_IN["turn_ms"]
    assert one.roles == ("guardrail", "secondary")
    assert one.is_tested


def test_document_calls_the_start_of_the_period_from() -> None:
    arms = {"control": {"revenue": drawn(0)}, "warm": {"revenue": drawn(0, seed=2)}}
    shown = json.loads(report(statistics(arms)).model_dump_json(by_alias=True))
    assert set(shown["period"]) >= {"from", "to"}
