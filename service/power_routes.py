"""`GET /v1/experiments/{key}/power`: what an experiment can see, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from anabranch.definitions import Key
from analysis.estimates import Estimate
from analysis.power import Design, days_to_go, design_of
from analysis.report import OVER
from analysis.sequential import Tuning, planned_for
from analysis.verdict import NoVerdict
from service.access import Access, Permission, needs
from service.answers import etag_of
from service.problems import problem_answers
from service.query_answers import QUERIED, Level, tagged
from service.reports import ReportQuestion, Reports

HORIZONS = (7, 14, 21, 28, 42, 56)
Answer = Mapping[str, Any]


class HorizonView(BaseModel):
    days: int = Field(description="From now on.")
    units: int = Field(description="In both arms by then, at `units_per_day`.")
    minimum_detectable_effect: float
    minimum_detectable_relative: float | None


class EffectView(BaseModel):
    relative: float = Field(description="The effect that was asked about, 0.05 for 5 %.")
    absolute: float
    power_now: float = Field(description="The chance to see it with the units of now.")
    units_needed: float = Field(description="In both arms, to see it with the wanted power.")
    days_to_go: float | None = Field(description="Null: no new units arrive.")


class ArmPower(BaseModel):
    variation: str
    baseline: str
    units: int = Field(description="In both arms now.")
    units_per_day: float = Field(
        description="Into both, since the first exposure; 0 when it is over."
    )
    minimum_detectable_effect: float | None = Field(
        description="Absolute, with the units of now; null beside a `no_verdict`."
    )
    minimum_detectable_relative: float | None = Field(
        description="As a share of the baseline; null where that is not above zero."
    )
    horizons: list[HorizonView]
    effect: EffectView | None = Field(
        description="Null where none was asked about, or the baseline is not above zero."
    )
    no_verdict: str | None = Field(description="Why nothing can be said.")


class MetricPower(BaseModel):
    metric: str
    comparisons: list[ArmPower]


class PowerReport(BaseModel):
    experiment: str
    report: str = Field(description="Id of the report that variances and units are of.")
    days: float = Field(description="Since the first exposure.")
    power: float
    level: float
    sequential: bool
    metrics: list[MetricPower]


def power_routes(access: Access, reports: Reports) -> APIRouter:
    router = access.router(tags=["reports"])

    @router.get(
        "/v1/experiments/{key}/power",
        response_model=PowerReport,
        responses=problem_answers(404, 409, *QUERIED),
    )
    @needs(Permission.VIEW)
    async def power(
        request: Request,
        key: str,
        metric: Annotated[
            list[Key] | None,
            Query(max_length=100, description="Only these; may be repeated."),
        ] = None,
        power: Annotated[
            float, Query(ge=0.5, le=0.999, description="The wanted chance to see an effect.")
        ] = 0.8,
        effect: Annotated[
            float | None,
            Query(
                allow_inf_nan=False,
                gt=-1,
                le=10,
                description="A relative effect to ask about, 0.05 for 5 %; not zero.",
            ),
        ] = None,
        sequential: Annotated[
            bool,
            Query(
                description="By always-valid p-values, which take more units than one look; tuned "
                "for the planned units, as in the report."
            ),
        ] = False,
        level: Level = 0.95,
    ) -> Response:
        """Which effects the experiment can see with the units it has, and with those it will have
        in one to eight weeks; and how long it takes to see a given one.

        Variances, shares and the rate of arrival are the experiment's own, so it takes some units
        first. Test and level are those of the report, for a single look; `sequential` for any.
        Of an experiment that is over no more units are expected.
        """
        asked = ReportQuestion(
            key, metrics=None if metric is None else tuple(dict.fromkeys(metric)), level=level
        )
        report = orjson.loads((await reports.get(asked)).body)
        wanted = Wanted(power, level, sequential, effect)
        found = PowerReport(
            experiment=key,
            report=report["id"],
            days=report["period"]["days"],
            power=power,
            level=level,
            sequential=sequential,
            metrics=[
                MetricPower(
                    metric=one["metric"],
                    comparisons=list(comparisons(one, Course.of(report), wanted)),
                )
                for one in report["metrics"]
            ],
        )
        body = found.model_dump_json().encode()
        return tagged(request, body, etag_of(body), "application/json")

    return router


class Course(NamedTuple):
    """How the experiment goes, and how it was planned."""

    days: float
    is_open: bool
    planned_units: int | None
    weights: Mapping[str, int]

    @classmethod
    def of(cls, report: Answer) -> Course:
        return cls(
            report["period"]["days"],
            report["status"] not in OVER,
            report["method"]["planned_units"],
            {one["key"]: one["weight"] for one in report["variations"]},
        )

    def rate(self, units: int) -> float:
        return units / self.days if self.is_open and self.days > 0 else 0.0

    def tuning(self, baseline: str, variation: str, level: float) -> Tuning:
        """The report's."""
        planned = planned_for(self.planned_units, self.weights, baseline, variation)
        return Tuning.for_units(planned, level)


class Wanted(NamedTuple):
    power: float
    level: float
    sequential: bool
    effect: float | None
    """Relative."""


def comparisons(metric: Answer, course: Course, wanted: Wanted) -> Iterator[ArmPower]:
    base, *arms = metric["arms"]
    baseline = _estimate(base)
    for one, compared in zip(arms, metric["comparisons"], strict=True):
        arm = _estimate(one)
        units = baseline.units + arm.units
        rate = course.rate(units)
        tuning = course.tuning(base["variation"], one["variation"], wanted.level)
        design = design_of(
            baseline, arm, level=wanted.level, tuning=tuning if wanted.sequential else None
        )
        # The report knows better why an arm has no value: a ratio or a quantile may have none.
        why = compared["no_verdicts"].get("power")
        smallest: float | None = None
        if isinstance(design, NoVerdict):
            said: dict[str, Any] = {
                "no_verdict": design.sentence if why is None else why["sentence"],
                "horizons": [],
                "effect": None,
            }
        else:
            smallest = design.minimum_detectable_effect(units, wanted.power)
            said = {
                "no_verdict": None,
                "horizons": [
                    _horizon(later, design, round(units + later * rate), baseline, wanted)
                    for later in HORIZONS
                ],
                "effect": _effect(design, units, rate, baseline, wanted),
            }
        yield ArmPower(
            variation=one["variation"],
            baseline=base["variation"],
            units=units,
            units_per_day=rate,
            minimum_detectable_effect=smallest,
            minimum_detectable_relative=_share(smallest, baseline),
            **said,
        )


def _estimate(arm: Answer) -> Estimate:
    """`sd` is what one unit contributes; of an arm that has none yet, it is not a number."""
    value, sd = arm["value"], arm["sd"]
    variance = math.nan if sd is None else sd * sd
    return Estimate(arm["units"], math.nan if value is None else value, variance)


def _horizon(
    days: int, design: Design, units: int, baseline: Estimate, wanted: Wanted
) -> HorizonView:
    smallest = design.minimum_detectable_effect(units, wanted.power)
    return HorizonView(
        days=days,
        units=units,
        minimum_detectable_effect=smallest,
        minimum_detectable_relative=_share(smallest, baseline),
    )


def _effect(
    design: Design, units: int, rate: float, baseline: Estimate, wanted: Wanted
) -> EffectView | None:
    relative = wanted.effect
    absolute = None if relative is None else relative * baseline.value
    if relative is None or not absolute or baseline.value < 0:
        return None
    needed = design.units_needed(absolute, wanted.power)
    to_go = days_to_go(needed, units, rate)
    return EffectView(
        relative=relative,
        absolute=absolute,
        power_now=design.power(absolute, units),
        units_needed=needed,
        days_to_go=None if isinstance(to_go, NoVerdict) else to_go,
    )


def _share(effect: float | None, baseline: Estimate) -> float | None:
    return None if effect is None or not baseline.value > 0 else effect / baseline.value
