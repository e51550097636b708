"""POST /v1/events: how services without our SDK write events."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from anabranch.encoding import Encoder
from anabranch.fields import Event
from service.access import Access, Permission, needs
from service.bodies import json_type, read_json_object
from service.event_documentation import EVENTS_BODY
from service.event_log import EventLog, NotStoredError, OverloadError, Record
from service.event_reading import ACCEPTED, RefusedError, read_event, type_label
from service.metrics import ServiceMetrics
from service.problems import Kind, Problem, problem_answers, shortened
from service.schema_ids import SchemaIds
from service.settings import ServiceSettings

logger = structlog.get_logger("service.events")

# Others get a turn after so many events, about 3 ms.
_EVENTS_A_TURN = 200


class Rejection(BaseModel):
    index: int = Field(description="The event's place in the request, from 0.")
    error: str = Field(description="What was wrong, where, and what would be right.")


class EventsAnswer(BaseModel):
    accepted: int = Field(description="Events that Kafka holds on all replicas in sync.")
    rejected: list[Rejection] = Field(description="The others; sent again as is, they fail again.")


class EventIntake:
    """What stands between a request's events and the log."""

    def __init__(
        self, log: EventLog, ids: SchemaIds, metrics: ServiceMetrics, settings: ServiceSettings
    ) -> None:
        self._log = log
        self._ids = ids
        self._metrics = metrics
        self._settings = settings
        self._encoders: Mapping[type[Event], Encoder] = {}

    async def take(self, request: Request) -> EventsAnswer:
        body = await read_json_object(request, max_depth=self._settings.max_json_depth)
        given = _events_of(body, self._settings.max_events_per_request)
        records, kinds, rejected = await self._read(given, self._ready_encoders())
        await self._store(records)
        for kind, count in kinds.items():
            self._metrics.events_accepted.labels(kind).inc(count)
        return EventsAnswer(accepted=len(records), rejected=rejected)

    def _ready_encoders(self) -> Mapping[type[Event], Encoder]:
        if not self._encoders:
            ids = self._ids.of_topic
            if ids is None:
                raise _unavailable("the schema registry has not given the ids of our schemas yet")
            self._encoders = {kind: Encoder(kind, ids[kind.TOPIC]) for kind in ACCEPTED.values()}
        return self._encoders

    async def _read(
        self, given: Sequence[Any], encoders: Mapping[type[Event], Encoder]
    ) -> tuple[list[Record], Counter[str], list[Rejection]]:
        now_ms = time.time_ns() // 1_000_000
        records: list[Record] = []
        kinds: Counter[str] = Counter()
        rejected: list[Rejection] = []
        for index, item in enumerate(given):
            if index % _EVENTS_A_TURN == _EVENTS_A_TURN - 1:
                await asyncio.sleep(0)
            try:
                event = read_event(item, now_ms)
                records.append(Record(event.TOPIC, *encoders[type(event)].encode(event)))
                kinds[event.TYPE] += 1
            except RefusedError as refused:
                rejected.append(Rejection(index=index, error=str(refused)))
                self._metrics.events_rejected.labels(type_label(item), refused.reason.value).inc()
        return records, kinds, rejected

    async def _store(self, records: Sequence[Record]) -> None:
        try:
            await self._log.store(records, timeout=self._settings.produce_timeout_seconds)
        except OverloadError as overloaded:
            self._metrics.events_unavailable.labels("overloaded").inc(len(records))
            raise Problem(
                Kind.OVERLOADED, str(overloaded), headers={"Retry-After": "1"}
            ) from overloaded
        except NotStoredError as failure:
            self._metrics.events_unavailable.labels("kafka").inc(len(records))
            logger.warning("events not stored", events=len(records), reason=str(failure))
            raise _unavailable(str(failure)) from failure


def event_routes(access: Access, intake: EventIntake) -> APIRouter:
    router = access.router(tags=["events"])

    @router.post(
        "/v1/events",
        status_code=202,
        response_model=EventsAnswer,
        openapi_extra={"requestBody": EVENTS_BODY},
        responses=problem_answers(400, 401, 403, 413, 415, 422, 503),
    )
    @needs(Permission.EMIT)
    async def publish(request: Request) -> Response:
        """Writes a batch of events to Kafka and answers once it holds them (acks=all).

        Each event is judged by itself: the good ones are accepted, the others come back with
        their index and the reason. `event_id` and `ts` are filled in when absent.

        An answer of 503 means that not every event was stored, and some may have been. Send the
        batch again: give each event an `event_id` of your own, so that a copy can be recognised.
        """
        answer = await intake.take(request)
        return Response(answer.model_dump_json(), 202, media_type="application/json")

    return router


def _events_of(body: Mapping[str, Any], limit: int) -> list[Any]:
    if unknown := sorted(body.keys() - {"events"}):
        raise Problem(
            Kind.INVALID_REQUEST,
            f"{shortened(ascii(unknown[0]))} is not known here; the body has one member, events",
        )
    events = body.get("events")
    if not isinstance(events, list):
        given = f"it is {json_type(events)}" if "events" in body else "it is missing"
        raise Problem(Kind.INVALID_REQUEST, f"events must be an array of objects; {given}")
    if len(events) > limit:
        raise Problem(
            Kind.BODY_TOO_LARGE, f"a request may have {limit:,} events, not {len(events):,}"
        )
    return events


def _unavailable(reason: str) -> Problem:
    return Problem(Kind.KAFKA_UNAVAILABLE, reason, headers={"Retry-After": "2"})
