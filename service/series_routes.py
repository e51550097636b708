"""`GET /v1/experiments/{key}/series`: how a result settled, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from anabranch.definitions import Definition, Key
from analysis.metric_catalogue import Kind as MetricKind
from analysis.metric_catalogue import Metric
from analysis.sequential import DEFAULT_PLANNED_UNITS, Tuning, planned_for
from analysis.series import Point, Series, settling, wearing
from analysis.verdict import NoVerdict
from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from service.access import Access, Permission, needs
from service.experiment_history import comparable
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, problem_answers
from service.query_answers import QUERIED, From, Level, To, known_time, tagged, time_of
from service.query_cache import QueryCache
from service.report_settings import ReportSettings
from service.reported_experiments import (
    Reported,
    ReportedExperiments,
    check_segments,
    metric_keys,
)
from sinks.experiment_series import (
    Growth,
    SeriesQuestion,
    Step,
    experiment_series,
    first_exposure,
)
from sinks.limited_queries import LimitedQueries

MOST_ROWS = 50_000
_DAY = timedelta(days=1)
_LONGEST: Mapping[Step, timedelta] = {"minute": _DAY, "hour": 31 * _DAY}
_KEPT = 400 * _DAY


class NoVerdictView(BaseModel):
    reason: str = Field(description="For programs.")
    sentence: str = Field(description="For people.")


class SequentialView(BaseModel):
    p_value: float
    ci: tuple[float, float] = Field(
        description="Of the effect. The intervals of one variation in one segment hold together "
        "over all steps; not over several of these, and by days since exposure each one holds at "
        "all times but not together with those of other days."
    )


class StepView(BaseModel):
    at: datetime | None = Field(description="Start of the step, UTC; null by days since exposure.")
    day: int | None = Field(description="Days since exposure; 0 is the day of the exposure.")
    new_units: int = Field(description="First exposed in the step.")
    units: int = Field(
        description="Exposed up to the end of the step; by days since exposure: that have lived "
        "through this whole day."
    )
    active_units: int = Field(description="That did something in the step.")
    step_value: float | None = Field(
        description="Of what was done in the step alone: per unit; of a ratio, the ratio."
    )
    value: float | None = Field(
        description="Of all that was done up to the end of the step; by days since exposure the "
        "same as `step_value`."
    )
    effect: float | None = Field(description="`value` less that of the baseline.")
    sequential: SequentialView | None = Field(description="Always valid; null for the baseline.")
    no_verdict: NoVerdictView | None = Field(description="Why there is no interval.")


class VariationSteps(BaseModel):
    variation: str
    tuned_for: int | None = Field(
        description="At how many units of this variation and the baseline the intervals are "
        "narrowest, as in the report; null for the baseline."
    )
    points: list[StepView]


class SegmentSteps(BaseModel):
    segment: str | None = Field(description="Null without `by`; empty where it is not known.")
    variations: list[VariationSteps] = Field(description="The baseline first.")


class SeriesAnswer(BaseModel):
    experiment: str
    version: int
    metric: str
    kind: MetricKind
    step: Step
    by: str | None
    baseline: str
    level: float
    planned_units: int | None = Field(description="In all variations; null when nobody planned.")
    segments: list[SegmentSteps]


class SeriesAnswers:
    def __init__(
        self,
        queries: LimitedQueries,
        experiments: ReportedExperiments,
        settings: ReportSettings,
        metrics: ServiceMetrics,
    ) -> None:
        self._queries = queries
        self._experiments = experiments
        topics = [topic.name for topic in (EXPOSURES, TURN_METRICS, INVITES, OUTCOMES)]
        self._cache = QueryCache("series", topics, queries, settings, metrics)

    async def answer(
        self,
        request: Request,
        key: str,
        metric: str | None,
        step: Step,
        by: str | None,
        since: datetime | None,
        until: datetime | None,
        level: float,
    ) -> Response:
        experiment = self._experiments.find(key)
        check_segments(experiment.definition, by)
        metric = metric or metric_keys(experiment.definition)[0]
        catalogued = self._experiments.metric(metric)
        _check_metric(metric, catalogued.metric)
        now = datetime.now(UTC)
        asked = (experiment.version, key, metric, catalogued.version, step, by, since, until, level)

        async def make(_: object) -> bytes:
            begin = await first_exposure(self._queries, key)
            growth = Growth([])
            if begin is not None:
                begin = max(begin, since or begin)
                _check_length(key, step, begin, min(now, until or now))
                versions = None
                if since is None and until is None:
                    versions = comparable(self._experiments.history(experiment))
                question = SeriesQuestion(
                    key,
                    tuple(variation.key for variation in experiment.definition.variations),
                    *(catalogued.metric, step, begin, until, now.date(), by, MOST_ROWS, versions),
                )
                growth = await experiment_series(self._queries, question)
            asked_of = (experiment, metric, catalogued.metric, step, by, level, growth)
            # In a thread: of many points it takes long enough for other requests to notice.
            found = await asyncio.to_thread(_answer, *asked_of)
            return found.model_dump_json().encode()

        found = await self._cache.get((*asked, now.date()), make)
        return tagged(request, found.body, found.etag, "application/json")

    async def close(self) -> None:
        await self._cache.close()


def series_routes(access: Access, answers: SeriesAnswers) -> APIRouter:
    router = access.router(tags=["reports"])

    @router.get(
        "/v1/experiments/{key}/series",
        response_model=SeriesAnswer,
        responses=problem_answers(404, 409, *QUERIED),
    )
    @needs(Permission.VIEW)
    async def series(
        request: Request,
        key: str,
        metric: Annotated[
            Key | None, Query(description="The first one of the experiment when absent.")
        ] = None,
        step: Annotated[Step, Query(description="How long a step is.")] = "day",
        by: Annotated[
            Key | None, Query(description="`locale`, or a dimension of the experiment.")
        ] = None,
        from_: From = None,
        to: To = None,
        level: Level = 0.95,
    ) -> Response:
        """How the result of one metric settled: its value with all units and all events up to the
        end of each step, and the effect with an always-valid interval, so that every point may be
        looked at. The last point of `day` is what the report says now.

        * `minute`, `hour`: from the raw events, an experiment of a day and of 31 days at most.
        * `day`: from sums by unit and day, in UTC.
        * `days_since_exposure`: each day since the unit's first exposure for itself, whole days
          alone; an effect that fades along them was its novelty.

        `from` and `to` choose units by their first exposure; without them, the units are those that
        came under the weights of now, as in the report. Units that saw several variations are
        left out. Steps in which nothing happened in any variation have no point. Quantiles do not
        add up over steps, nor does a cap that is a percentile: for these, see the report.
        """
        since = None if from_ is None else known_time("from", from_)
        until = None if to is None else known_time("to", to)
        return await answers.answer(request, key, metric, step, by, since, until, level)

    return router


def _check_metric(key: str, metric: Metric) -> None:
    problem = None
    if metric.kind == "quantile":
        problem = "is a quantile"
    elif metric.cap is not None and metric.cap.percentile is not None:
        problem = "has a cap that is a percentile, which moves"
    if problem is not None:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"the metric {key} {problem}: that does not add up over steps; its report has it",
        )


def _check_length(key: str, step: Step, begin: datetime, end: datetime) -> None:
    longest = _LONGEST.get(step, _KEPT)
    if end - begin > longest + _DAY * (step not in _LONGEST):
        other = {"minute": "take step=hour or step=day", "hour": "take step=day"}.get(step)
        raise Problem(
            Kind.INVALID_REQUEST,
            f"{key} has units from {time_of(begin)} on; by {step} they may be of "
            f"{longest.days} {'day' if longest == _DAY else 'days'}: "
            f"{f'{other}, or ' if other else ''}choose later units with from",
        )


def _answer(
    experiment: Reported,
    key: str,
    metric: Metric,
    step: Step,
    by: str | None,
    level: float,
    growth: Growth,
) -> SeriesAnswer:
    if len(growth.added) > MOST_ROWS:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"there are more than {MOST_ROWS:,} points; take longer steps, or leave out by",
        )
    definition = experiment.definition
    variations = [variation.key for variation in definition.variations]
    tuned_for = _tuned_for(definition)
    tunings = {key: Tuning.for_units(units, level) for key, units in tuned_for.items()}
    compute = wearing if step == "days_since_exposure" else settling
    return SeriesAnswer(
        experiment=definition.key,
        version=experiment.version,
        metric=key,
        kind=metric.kind,
        step=step,
        by=by,
        baseline=variations[0],
        level=level,
        planned_units=definition.planned_units,
        segments=[
            _segment(
                None if by is None else segment,
                compute(list(part), variations, metric.kind, tunings, level, growth.bits),
                tuned_for,
                step,
            )
            for segment, part in groupby(growth.added, key=lambda row: row.segment)
        ],
    )


def _tuned_for(definition: Definition) -> Mapping[str, int]:
    """By variation but the baseline, as the report does it."""
    weights = {variation.key: variation.weight for variation in definition.variations}
    baseline, *others = weights
    return {
        key: planned_for(definition.planned_units, weights, baseline, key) or DEFAULT_PLANNED_UNITS
        for key in others
    }


def _segment(
    segment: str | None, series: Series, tuned_for: Mapping[str, int], step: Step
) -> SegmentSteps:
    return SegmentSteps(
        segment=segment,
        variations=[
            VariationSteps(
                variation=variation,
                tuned_for=tuned_for.get(variation),
                points=[_point(point, step) for point in points],
            )
            for variation, points in series.items()
        ],
    )


def _point(point: Point, step: Step) -> StepView:
    is_age = step == "days_since_exposure"
    estimate, sequential = point.estimate, point.sequential
    missing = next((one for one in (estimate, sequential) if isinstance(one, NoVerdict)), None)
    return StepView(
        at=None if is_age else datetime.fromtimestamp(point.step, UTC),
        day=point.step if is_age else None,
        new_units=point.new_units,
        units=point.units,
        active_units=point.active_units,
        step_value=point.own_value,
        value=None if isinstance(estimate, NoVerdict) else estimate.value,
        effect=point.effect,
        sequential=None
        if sequential is None or isinstance(sequential, NoVerdict)
        else SequentialView(
            p_value=sequential.p_value, ci=(sequential.interval.low, sequential.interval.high)
        ),
        no_verdict=None
        if missing is None
        else NoVerdictView(reason=missing.reason, sentence=missing.sentence),
    )
