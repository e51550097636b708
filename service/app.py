"""The service as one application: its parts put together, started and stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from anabranch.events import AuditEntry, ExperimentRecord
from schemas.releases import releases
from schemas.topics import AUDIT, EXPERIMENTS
from service.access import Access, Role
from service.administration import administration_routes
from service.api_keys import ApiKeys
from service.assigning import Assigning
from service.audit import Audit, AuditTopic
from service.audit_routes import audit_routes
from service.bodies import BodyLimitMiddleware
from service.clickhouse_probe import ClickHouseProbe
from service.definition_changes import DefinitionChanges
from service.docs import add_document, docs_routes
from service.event_log import EventLog
from service.event_reading import ACCEPTED
from service.events import EventIntake, event_routes
from service.health import Readiness, health_routes
from service.ingestion import Ingestion
from service.kafka_link import KafkaLink
from service.key_routes import key_routes
from service.key_uses import UseCounts
from service.kill_switch import KillSwitch
from service.metrics import ServiceMetrics
from service.people import People
from service.problems import add_problem_handlers
from service.rate_limits import RateLimits
from service.registry import answer_registry_error, registry_routes
from service.reporting import Reporting
from service.requests import RequestMiddleware
from service.schema_catalogue import Catalogue, RegistryError
from service.schema_ids import SchemaIds
from service.settings import Settings
from service.signing_keys import SigningKeys
from service.stats import stats_routes
from service.straight_routes import StraightRoutes
from service.webhooks import Webhooks
from sinks.audit_log import AuditLog
from sinks.figures import IngestionFigures
from sinks.key_uses import KeyUses
from sinks.watched_units import WatchedUnits
from streams.log_ends import LogEnds

DESCRIPTION = """
Streaming experimentation: events go in, trusted reports come out.

* **Keys.** Send `Authorization: Bearer <key>`. A key has one role: `viewer`, `experimenter`,
  `admin`, `emit` or `evaluate`; `/v1/keys` makes more of them. People may send the token of their
  identity provider instead. Health, figures and the schema registry need neither.
* **Limits.** Each key and person may make so many requests a second; the headers `RateLimit-Policy`
  and `RateLimit` tell them, and beyond them the answer is 429 with `Retry-After`.
* **Errors** are problems as in RFC 9457, of the media type `application/problem+json`. Their
  `type` is a path of this service that explains it (`/problems`); `request_id` finds the log line.
* **Schema registry.** `/subjects`, `/schemas`, `/compatibility`, `/config` and `/mode` are those
  of the Confluent REST API, read-only.
"""


def create_app(
    settings: Settings,
    keys: Mapping[Role, str] | None,
    *,
    definitions_topic: str = EXPERIMENTS.name,
) -> FastAPI:
    """Everything is made here and nothing is started: no socket, no task, no file."""
    metrics = ServiceMetrics()
    catalogue = Catalogue(releases())
    link = KafkaLink(settings.kafka)
    log = EventLog(link, metrics, max_in_flight=settings.service.max_events_in_flight)
    ids = SchemaIds((*ACCEPTED.values(), AuditEntry, ExperimentRecord), catalogue, settings)
    assigning = Assigning(settings, link, log, ids, metrics, definitions_topic)
    audit_topic = AuditTopic(log, ids, settings.service.produce_timeout_seconds)
    audit_log = AuditLog(settings.clickhouse)
    audit = Audit(audit_topic.write, audit_log.heads, metrics, settings.limits)
    limits = RateLimits(settings.limits, metrics)
    uses = UseCounts(KeyUses(settings.clickhouse), metrics)
    api_keys = ApiKeys(assigning.log, uses)
    signing_keys = SigningKeys(settings.oidc, metrics)
    people = People(settings.oidc, signing_keys)
    access = Access(keys, metrics, made_keys=api_keys, people=people, limits=limits, audit=audit)
    clickhouse = ClickHouseProbe(settings.clickhouse)
    ingestion = Ingestion(IngestionFigures(settings.clickhouse), LogEnds(settings.kafka))
    changes = DefinitionChanges(assigning.log, assigning.live, audit)
    reporting = Reporting(settings, changes, assigning.phases, ingestion, metrics)
    watched = WatchedUnits(settings.clickhouse)
    webhooks = Webhooks(settings.webhook, metrics)
    kill_switch = KillSwitch(assigning.log, assigning.live, watched, audit, webhooks, metrics)
    readiness = Readiness(
        {
            "kafka": link.check,
            "topics": lambda: link.check_topics(
                [*(e.TOPIC for e in ACCEPTED.values()), AUDIT.name, definitions_topic]
            ),
            "schemas": ids.check,
            "clickhouse": clickhouse.check,
            "audit": audit.check,
            **assigning.checks,
        },
        metrics,
        warnings={"kill_switch": kill_switch.warning},
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        link.start()
        readiness.start()
        audit.start()
        uses.start()
        await assigning.start()
        kill_switch.start()
        try:
            yield
        finally:
            await readiness.stop()
            await kill_switch.stop()
            await webhooks.stop()
            await assigning.stop()
            await audit.stop(flush_seconds=settings.service.shutdown_timeout_seconds)
            await link.stop(flush_seconds=settings.service.shutdown_timeout_seconds)
            await log.stop()
            await clickhouse.close()
            await reporting.close()
            await ingestion.close()
            await watched.close()
            await audit_log.close()
            await uses.stop()
            await signing_keys.close()

    app = FastAPI(
        title="Anabranch",
        version=version("anabranch"),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # our own routes serve both, under a policy (service/docs.py)
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    intake = EventIntake(log, ids, metrics, settings.service)
    for router in (
        event_routes(access, intake),
        stats_routes(access, ingestion),
        *reporting.routers(access),
        audit_routes(access, audit_log),
        key_routes(access, api_keys, uses, audit),
        *assigning.routers(access),
        *administration_routes(
            *(access, assigning.log, assigning.live, audit, assigning.phases),
            *(kill_switch, settings.service),
        ),
        health_routes(access, readiness, metrics),
        registry_routes(access, catalogue),
        docs_routes(access),
    ):
        # include_router() would hide the routes from whoever walks app.routes to check them.
        app.router.routes.extend(router.routes)
    add_problem_handlers(app)
    app.add_exception_handler(RegistryError, answer_registry_error)
    app.add_middleware(StraightRoutes, routes=app.router.routes)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.service.max_body_bytes)
    app.add_middleware(RequestMiddleware, metrics=metrics)  # the last is the outermost
    add_document(app)
    app.state.assigning = assigning
    return app
