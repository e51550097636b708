"""`GET /v1/growth` and `/v1/growth/{loop}`: what invitations bring."""

from __future__ import annotations

import difflib
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from analysis.growth import Rate, growth
from analysis.moments import JointMoments
from analysis.verdict import NoVerdict
from schemas.topics import INVITES
from service.access import Access, Permission, needs
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, problem_answers, shortened
from service.query_answers import QUERIED, From, Level, To, span_of, tagged, time_of
from service.query_cache import QueryCache
from service.report_settings import ReportSettings
from sinks.growth import Dimension, GrowthQuestion, GrowthRow, growth_rows, loops
from sinks.limited_queries import LimitedQueries

MOST_ROWS = 20_000
_USUAL = timedelta(days=28)
_LONGEST = timedelta(days=400)
_LEVEL = 0.95

By = Annotated[
    list[Dimension] | None,
    Query(max_length=2, description="Parts by `locale`, by `day`, or by both."),
]
Locales = Annotated[
    list[Annotated[str, Query(max_length=64)]] | None,
    Query(max_length=50, description="Only these, of the inviter; may be repeated."),
]


class RateView(BaseModel):
    value: float | None = Field(description="Null where there is nothing to divide by.")
    ci: tuple[float, float] | None = Field(description="Its interval; null: see `no_interval`.")
    no_interval: str | None = Field(description="Why it has none.")


class GrowthView(BaseModel):
    inviters: int = Field(description="Who sent an invite in the span: the denominator.")
    sent: int = Field(description="Invites that they sent in it.")
    joined: int = Field(description="Joins in it of whom they invited.")
    fvm: int = Field(description="First valuable moments in it of whom they invited.")
    joined_of_others: int = Field(
        description="Joins in the span of whom others invited before it; in no rate."
    )
    fvm_of_others: int = Field(description="First valuable moments, likewise.")
    sent_per_inviter: RateView
    conversion: RateView = Field(description="Joins per invite sent.")
    fvm_conversion: RateView = Field(description="First valuable moments per invite sent.")
    k_factor: RateView = Field(description="sent_per_inviter x conversion: joins per inviter.")
    fvm_k_factor: RateView = Field(description="First valuable moments per inviter.")


class PartView(GrowthView):
    day: date | None = Field(description="UTC; null unless `by=day`.")
    locale: str | None = Field(description="Of the inviter; null unless `by=locale`.")


class LoopView(GrowthView):
    loop: str
    parts: list[PartView] = Field(
        description="An inviter is in each part that they sent in, so inviters of parts may add "
        "up to more than all."
    )


class _Span(BaseModel):
    from_: date = Field(alias="from", serialization_alias="from", description="UTC.")
    to: date = Field(description="UTC, not included.")
    level: float


class LoopAnswer(_Span, LoopView):
    pass


class GrowthAnswer(_Span):
    loops: list[LoopView]


class GrowthAnswers:
    def __init__(
        self, queries: LimitedQueries, settings: ReportSettings, metrics: ServiceMetrics
    ) -> None:
        self._queries = queries
        self._cache = QueryCache("growth", [INVITES.name], queries, settings, metrics)

    async def answer(self, request: Request, asked: GrowthQuestion, level: float) -> Response:
        async def make(_: object) -> bytes:
            found = _loops(asked, await growth_rows(self._queries, asked), level)
            span = {"from": asked.since, "to": asked.until, "level": level}
            if asked.loop is None:
                answer: BaseModel = GrowthAnswer(**span, loops=found)
            else:
                one = found[0] if found else await self._empty(asked.loop, level)
                answer = LoopAnswer(**span, **one.model_dump())
            return answer.model_dump_json(by_alias=True).encode()

        kept = await self._cache.get((asked, level), make)
        return tagged(request, kept.body, kept.etag, "application/json")

    async def close(self) -> None:
        await self._cache.close()

    async def _empty(self, loop: str, level: float) -> LoopView:
        """Of a loop that rested in the span. Raises a Problem (404) for one that never was."""
        known = await loops(self._queries)
        if loop not in known:
            near = difflib.get_close_matches(loop, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "GET /v1/growth lists the loops"
            raise Problem(
                Kind.NOT_FOUND, f"no invite of a loop {shortened(loop)} has come in; {hint}"
            )
        nobody = JointMoments.from_sums(0, [0.0] * 3, [[0.0] * 3] * 3)
        row = GrowthRow(loop, False, None, None, (0, 0, 0), nobody, (0, 0))
        return _loop(row, [], level)


def growth_routes(access: Access, answers: GrowthAnswers) -> APIRouter:
    router = access.router(tags=["reports"])

    @router.get("/v1/growth", response_model=GrowthAnswer, responses=problem_answers(*QUERIED))
    @needs(Permission.VIEW)
    async def all_loops(
        request: Request,
        from_: From = None,
        to: To = None,
        by: By = None,
        locale: Locales = None,
        level: Level = _LEVEL,
    ) -> Response:
        """The K-factor of every growth loop, with intervals.

        The denominator of `sent_per_inviter` and `k_factor` is the inviters: who sent at least one
        invite of the loop in the span. It is not all active people, which the events do not tell;
        multiply by the share of people who invite to get there. Each step counts on the day when
        it happened, so a join in the span may be of an invite that was sent before it. Intervals
        are over inviters, whose invites are alike.

        Days are whole ones in UTC: the span is widened to them. It is 28 days back when `from` is
        absent, and 400 days at most.
        """
        return await answers.answer(request, _asked(None, from_, to, by, locale), level)

    @router.get(
        "/v1/growth/{loop}", response_model=LoopAnswer, responses=problem_answers(404, *QUERIED)
    )
    @needs(Permission.VIEW)
    async def one_loop(
        request: Request,
        loop: Annotated[str, Path(max_length=128)],
        from_: From = None,
        to: To = None,
        by: By = None,
        locale: Locales = None,
        level: Level = _LEVEL,
    ) -> Response:
        """The K-factor of one growth loop; figures as in `/v1/growth`."""
        return await answers.answer(request, _asked(loop, from_, to, by, locale), level)

    return router


def _asked(
    loop: str | None,
    since: datetime | None,
    until: datetime | None,
    by: list[Dimension] | None,
    locale: list[str] | None,
) -> GrowthQuestion:
    span = span_of(since, until, timedelta(days=1), _USUAL)
    if span.until - span.since > _LONGEST:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"from {time_of(span.since)} to {time_of(span.until)} are "
            f"{(span.until - span.since).days:,} days; invites are kept for {_LONGEST.days}",
        )
    return GrowthQuestion(
        since=span.since.date(),
        until=span.until.date(),
        loop=loop,
        locales=None if locale is None else tuple(sorted(set(locale))),
        by=tuple(sorted(set(by or ()))),
        most=MOST_ROWS,
    )


def _loops(asked: GrowthQuestion, rows: list[GrowthRow], level: float) -> list[LoopView]:
    if len(rows) > asked.most:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"there are more than {asked.most:,} rows; name a loop or some locales, or ask for a "
            "shorter span",
        )
    parts: dict[str, list[PartView]] = {row.loop: [] for row in rows}
    for row in rows:
        if row.is_part:
            view = {**_figures(row, level), "day": row.day, "locale": row.locale}
            parts[row.loop].append(PartView.model_validate(view))
    return [_loop(row, parts[row.loop], level) for row in rows if not row.is_part]


def _loop(row: GrowthRow, parts: list[PartView], level: float) -> LoopView:
    return LoopView.model_validate({**_figures(row, level), "loop": row.loop, "parts": parts})


def _figures(row: GrowthRow, level: float) -> dict[str, Any]:
    found = growth(row.moments, level)
    sent, joined, fvm = row.totals
    rates = ("sent_per_inviter", "conversion", "fvm_conversion", "k_factor", "fvm_k_factor")
    return {
        "inviters": found.inviters,
        "sent": sent,
        "joined": joined,
        "fvm": fvm,
        "joined_of_others": row.others[0],
        "fvm_of_others": row.others[1],
        **{name: _rate(getattr(found, name)) for name in rates},
    }


def _rate(rate: Rate) -> RateView:
    if isinstance(rate.interval, NoVerdict):
        return RateView(value=rate.value, ci=None, no_interval=rate.interval.sentence)
    return RateView(value=rate.value, ci=(rate.interval.low, rate.interval.high), no_interval=None)
