"""`GET /v1/audit`: who did what to what, the newest first."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from service.access import Access, Permission, needs
from service.problems import Kind, Problem, problem_answers, shortened
from sinks.audit_log import AuditFilter, AuditLog, AuditRow
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable

_LARGEST_OFFSET = 2**63 - 1


class AuditView(BaseModel):
    event_id: str
    ts: datetime
    actor: str = Field(description="A role, the name of a key, or a person's account.")
    action: str = Field(description="What was done, as <thing>.<verb>.", examples=["key.create"])
    target: str = Field(description="What it was done to.")
    before: Any = Field(description="The state before, without secrets; null where there was none.")
    after: Any = Field(description="The state after, without secrets; null where there is none.")
    request_id: str
    comment: str
    chain: str = Field(description="The chain that the entry is a link of.")
    sequence: int = Field(description="Its place in the chain, from 1 on.")
    previous_hash: str
    hash: str = Field(description="`anabranch audit verify` makes them again and compares.")


class AuditPage(BaseModel):
    entries: list[AuditView]
    next_cursor: str | None = Field(description="For the next page; null on the last.")


def audit_routes(access: Access, log: AuditLog) -> APIRouter:
    router = access.router(tags=["audit"])

    @router.get(
        "/v1/audit", response_model=AuditPage, responses=problem_answers(401, 403, 422, 429, 503)
    )
    @needs(Permission.AUDIT)
    async def audit(
        actor: Annotated[str | None, Query(max_length=256)] = None,
        action: Annotated[
            str | None,
            Query(max_length=128, description="`key.*` for all that begin with `key.`."),
        ] = None,
        target: Annotated[str | None, Query(max_length=256)] = None,
        from_: Annotated[
            AwareDatetime | None, Query(alias="from", description="From this time on.")
        ] = None,
        to: Annotated[AwareDatetime | None, Query(description="Before this time.")] = None,
        cursor: Annotated[
            str | None, Query(max_length=32, description="`next_cursor` of the page before.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> AuditPage:
        """Every change and every denied attempt, the newest first.

        An entry shows a second or so after it was made: it comes by way of Kafka and a worker. The
        attempts of one source are limited (`ANABRANCH_LIMITS__DENIED_PER_MINUTE`).
        """
        wanted = AuditFilter(actor, action, target, from_, to)
        try:
            rows = await log.page(wanted, _offset(cursor), limit + 1)
        except (ClickHouseUnavailable, ClickHouseRefused) as error:
            raise Problem(
                Kind.CLICKHOUSE_UNAVAILABLE, str(error), headers={"Retry-After": "2"}
            ) from error
        more = len(rows) > limit
        return AuditPage(
            entries=[_view(row) for row in rows[:limit]],
            next_cursor=str(rows[limit - 1].offset) if more else None,
        )

    return router


def _offset(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal()) or int(cursor) > _LARGEST_OFFSET:
        raise Problem(
            Kind.INVALID_REQUEST,
            f"cursor is {shortened(cursor)!r}; it must be the next_cursor of a page before",
        )
    return int(cursor)


def _view(row: AuditRow) -> AuditView:
    fields = dict(row.fields)
    fields["ts"] = datetime.fromtimestamp(fields["ts"] / 1000, UTC)
    for state in ("before", "after"):
        if fields[state] is not None:
            with contextlib.suppress(orjson.JSONDecodeError):  # of nobody here: shown as it is
                fields[state] = orjson.loads(fields[state])
    return AuditView.model_validate(fields)
