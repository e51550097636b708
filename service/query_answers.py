"""What answers that come of a query have alike: problems, headers, spans of time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

from fastapi import Query, Request, Response
from pydantic import AwareDatetime

from service.answers import is_unchanged
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.limited_queries import QueryLimitError
from sinks.unit_statistics import TooManySegmentsError

QUERIED = (401, 403, 422, 429, 503)
_SETTING_OF = {
    "time": "ANABRANCH_REPORTS__QUERY_SECONDS",
    "memory": "ANABRANCH_REPORTS__QUERY_MEMORY_MB",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)

From = Annotated[
    AwareDatetime | None,
    Query(alias="from", description="From this time on.", examples=["2026-01-01T00:00:00Z"]),
]
To = Annotated[
    AwareDatetime | None,
    Query(description="Before this time; now when absent.", examples=["2026-01-08T00:00:00Z"]),
]

Level = Annotated[
    float, Query(gt=0.5, lt=1, allow_inf_nan=False, description="Of intervals, such as 0.95.")
]


@contextmanager
def query_problems(metrics: ServiceMetrics) -> Iterator[None]:
    """What a query can end with, as problems."""
    try:
        yield
    except QueryLimitError as error:
        metrics.query_limits.labels(error.limit).inc()
        raise Problem(
            Kind.QUERY_LIMIT,
            f"{error}; ask for a shorter span, for fewer metrics, or without `by`. "
            f"{_SETTING_OF[error.limit]} is the limit",
        ) from error
    except TooManySegmentsError as error:
        raise Problem(Kind.INVALID_REQUEST, str(error)) from error
    except (ClickHouseUnavailable, ClickHouseRefused) as error:
        raise Problem(
            Kind.CLICKHOUSE_UNAVAILABLE, str(error), headers={"Retry-After": "2"}
        ) from error


class Span(NamedTuple):
    since: datetime
    until: datetime
    """Not included."""


def span_of(
    since: datetime | None, until: datetime | None, step: timedelta, usual: timedelta
) -> Span:
    """Whole steps in UTC: those that hold the first and the last moment are taken whole.

    Raises a Problem (422).
    """
    end = datetime.now(UTC) if until is None else known_time("to", until)
    begin = end - usual if since is None else known_time("from", since)
    if begin >= end:
        said = "to is now" if until is None else f"to is {time_of(end)}"
        raise Problem(
            Kind.INVALID_REQUEST,
            f"from is {time_of(begin)} and {said}: from must come before to",
        )
    past, ahead = (begin - _EPOCH) % step, (_EPOCH - end) % step
    return Span(begin - past, end + ahead)


def time_of(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def known_time(name: str, at: datetime) -> datetime:
    """In UTC. Raises a Problem (422)."""
    if not _EARLIEST <= at <= _LATEST:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"{name} is of the year {at.year}; a time of the years {_EARLIEST.year} to "
            f"{_LATEST.year} is wanted",
        )
    return at.astimezone(UTC)


def tagged(request: Request, body: bytes, etag: str, media_type: str) -> Response:
    """304 where the caller has it already. Only the caller may keep it, and asks again."""
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)
