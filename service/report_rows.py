"""A report as rows: one for each segment, metric and variation, with the numbers of its JSON.

A row of the baseline has its own figures and no comparison. Works on the JSON, so that a report
that was stored by an earlier release can still be had as a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

Type = Literal["text", "number", "count"]


class Column(NamedTuple):
    name: str
    type: Type


_PLACE = ("experiment", "report", "segment_by", "segment")
_OF_METRIC = ("metric", "kind", "role", "direction")
_OF_ARM = ("value", "mean", "sd", "se", "sum", "denominator_sum")
_OF_COMPARISON: Mapping[str, tuple[str, ...]] = {
    "absolute_effect": ("absolute", "effect"),
    "absolute_low": ("absolute", "ci", "low"),
    "absolute_high": ("absolute", "ci", "high"),
    "relative_effect": ("relative", "effect"),
    "relative_low": ("relative", "ci", "low"),
    "relative_high": ("relative", "ci", "high"),
    "p_value": ("p_value",),
    "adjusted_p_value": ("adjusted_p_value",),
    "sequential_p_value": ("sequential", "p_value"),
    "sequential_adjusted_p_value": ("sequential", "adjusted_p_value"),
    "sequential_low": ("sequential", "ci", "low"),
    "sequential_high": ("sequential", "ci", "high"),
    "chance_to_beat_baseline": ("bayesian", "chance_to_beat_baseline"),
    "expected_loss": ("bayesian", "expected_loss"),
    "credible_low": ("bayesian", "ci", "low"),
    "credible_high": ("bayesian", "ci", "high"),
    "cuped_effect": ("cuped", "absolute", "effect"),
    "cuped_low": ("cuped", "absolute", "ci", "low"),
    "cuped_high": ("cuped", "absolute", "ci", "high"),
    "cuped_p_value": ("cuped", "p_value"),
    "cuped_variance_reduction": ("cuped", "variance_reduction"),
    "stratified_effect": ("stratified", "absolute", "effect"),
    "stratified_low": ("stratified", "absolute", "ci", "low"),
    "stratified_high": ("stratified", "absolute", "ci", "high"),
    "guardrail_limit": ("guardrail", "limit"),
    "guardrail_status": ("guardrail", "at_horizon", "status"),
    "guardrail_status_any_time": ("guardrail", "any_time", "status"),
    "minimum_detectable_effect": ("power", "minimum_detectable_effect"),
    "days_to_go": ("power", "days_to_go"),
    "no_verdict": ("no_verdict", "reason"),
}
_TEXTS = {"guardrail_status", "guardrail_status_any_time", "no_verdict"}

COLUMNS: tuple[Column, ...] = (
    *(Column(name, "text") for name in (*_PLACE, *_OF_METRIC, "variation", "baseline")),
    Column("units", "count"),
    *(Column(name, "number") for name in _OF_ARM),
    *(Column(name, "text" if name in _TEXTS else "number") for name in _OF_COMPARISON),
)


def rows(report: Mapping[str, Any]) -> Iterator[list[Any]]:
    """In the order of COLUMNS, one after the other: the whole first, then the segments."""
    place = [report["experiment"], report["id"]]
    yield from _of_metrics([*place, None, None], report["metrics"])
    for segment in report["segments"]:
        yield from _of_metrics([*place, segment["by"], segment["value"]], segment["metrics"])


def _of_metrics(place: list[Any], metrics: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    for metric in metrics:
        compared = {one["variation"]: one for one in metric["comparisons"]}
        for arm in metric["arms"]:
            comparison = compared.get(arm["variation"], {})
            yield [
                *place,
                *(metric[name] for name in _OF_METRIC),
                arm["variation"],
                comparison.get("baseline"),
                arm["units"],
                *(arm.get(name) for name in _OF_ARM),
                *(_found(comparison, path) for path in _OF_COMPARISON.values()),
            ]


def _found(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if value is None:
            return None
        value = value[name == "high"] if name in ("low", "high") else value.get(name)
    return value
