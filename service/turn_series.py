"""`GET /v1/turns/series`: what turns cost and did over time, for dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from schemas.topics import TURN_METRICS
from service.access import Access, Permission, needs
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, problem_answers
from service.query_answers import QUERIED, From, Span, To, span_of, tagged, time_of
from service.query_cache import QueryCache
from service.report_settings import ReportSettings
from sinks.limited_queries import LimitedQueries
from sinks.turn_series import (
    AMOUNTS,
    LATENCIES,
    Amount,
    Latency,
    Step,
    TurnPoint,
    TurnSeriesQuestion,
    turn_series,
)

MOST_POINTS = 20_000
_LENGTHS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
_USUAL: Mapping[Step, timedelta] = {
    "minute": timedelta(hours=1),
    "hour": timedelta(days=1),
    "day": timedelta(days=30),
}
_LONGEST: Mapping[Step, timedelta] = {
    "minute": timedelta(days=1),
    "hour": timedelta(days=31),
    "day": timedelta(days=400),
}


class LatencyView(BaseModel):
    """Over turns, in ms. Quantiles are exact: values that occurred."""

    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    max: int


class AmountView(BaseModel):
    sum: int
    per_turn: float
    turns_with_any: int = Field(description="Turns of which it is not zero.")


class PointView(BaseModel):
    at: datetime = Field(description="Start of the step, UTC.")
    locale: str | None = Field(description="Empty: unknown. Null unless `by=locale`.")
    turns: int = Field(description="Each once, however many experiments it carries.")
    turn_ms: LatencyView
    model_ms: LatencyView
    bundle_tokens: AmountView
    output_tokens: AmountView
    retries: AmountView
    fallbacks: AmountView
    tool_calls: AmountView
    acts: AmountView
    choices: AmountView
    time_ticks: AmountView


class TurnSeries(BaseModel):
    step: Step
    from_: datetime = Field(alias="from", serialization_alias="from")
    to: datetime = Field(description="Not included.")
    by: Literal["locale"] | None
    locales: list[str] | None = Field(description="Only these; null for all.")
    points: list[PointView] = Field(
        description="By time, then locale. A step without turns has no point: its latencies "
        "would be of nothing."
    )


class TurnSeriesAnswers:
    def __init__(
        self, queries: LimitedQueries, settings: ReportSettings, metrics: ServiceMetrics
    ) -> None:
        self._queries = queries
        self._cache = QueryCache("turns", [TURN_METRICS.name], queries, settings, metrics)

    async def answer(self, request: Request, asked: TurnSeriesQuestion) -> Response:
        async def make(_: object) -> bytes:
            return _series(asked, await turn_series(self._queries, asked))

        found = await self._cache.get(asked, make)
        return tagged(request, found.body, found.etag, "application/json")

    async def close(self) -> None:
        await self._cache.close()


def turn_series_routes(access: Access, answers: TurnSeriesAnswers) -> APIRouter:
    router = access.router(tags=["reports"])

    @router.get("/v1/turns/series", response_model=TurnSeries, responses=problem_answers(*QUERIED))
    @needs(Permission.VIEW)
    async def series(
        request: Request,
        step: Annotated[Step, Query(description="How long a step is.")] = "hour",
        from_: From = None,
        to: To = None,
        locale: Annotated[
            list[Annotated[str, Query(max_length=64)]] | None,
            Query(max_length=50, description="Only these; may be repeated. Empty: unknown."),
        ] = None,
        by: Annotated[
            Literal["locale"] | None, Query(description="A point for each locale and step.")
        ] = None,
    ) -> Response:
        """Latency percentiles, tokens, retries, fallbacks and tool calls over time, of all turns,
        in experiments or not.

        Steps are whole ones in UTC: the span is widened to them. It is an hour, a day or 30 days
        back when `from` is absent, and at most a day by minute, 31 days by hour, 400 days by day.
        Every turn counts once, in the step of its event time; a late one changes its own step.
        `If-None-Match` gets 304 while nothing has changed.
        """
        span = span_of(from_, to, _LENGTHS[step], _USUAL[step])
        _check_length(span, step)
        locales = None if locale is None else tuple(sorted(set(locale)))
        asked = TurnSeriesQuestion(step, *span, locales, by is not None, MOST_POINTS)
        return await answers.answer(request, asked)

    return router


def _check_length(span: Span, step: Step) -> None:
    length, longest = span.until - span.since, _LONGEST[step]
    if length <= longest:
        return
    other = {"minute": "or take step=hour", "hour": "or take step=day"}.get(step, "")
    said = f"from {time_of(span.since)} to {time_of(span.until)} are {_spoken(length)}"
    raise Problem(
        Kind.INVALID_REQUEST,
        f"{said}; by {step} it may be {_spoken(longest)}: ask for less {other}".rstrip(),
    )


def _spoken(length: timedelta) -> str:
    days = length / timedelta(days=1)
    return "1 day" if days == 1 else f"{days:,.4g} days"


def _series(asked: TurnSeriesQuestion, points: list[TurnPoint]) -> bytes:
    if len(points) > asked.most:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"there are more than {asked.most:,} points; name some locales, ask for a shorter "
            "span or for longer steps",
        )
    answer = TurnSeries(
        step=asked.step,
        **{"from": asked.since},
        to=asked.until,
        by="locale" if asked.by_locale else None,
        locales=None if asked.locales is None else list(asked.locales),
        points=[_point(point) for point in points],
    )
    return answer.model_dump_json(by_alias=True).encode()


def _point(point: TurnPoint) -> PointView:
    figures: dict[str, LatencyView | AmountView] = {
        name: _latency(point.latencies[name]) for name in LATENCIES
    }
    figures |= {name: _amount(point.amounts[name], point.turns) for name in AMOUNTS}
    return PointView.model_validate(
        {"at": point.at, "locale": point.locale, "turns": point.turns, **figures}
    )


def _latency(found: Latency) -> LatencyView:
    p50, p90, p95, p99 = found.quantiles
    return LatencyView(mean=found.mean, p50=p50, p90=p90, p95=p95, p99=p99, max=found.maximum)


def _amount(found: Amount, turns: int) -> AmountView:
    return AmountView(
        sum=found.total, per_turn=found.total / turns, turns_with_any=found.turns_with_any
    )
