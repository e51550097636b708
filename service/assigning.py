"""What decides in this process, put together: definitions, their changes, and the doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter

from anabranch.registry import Registry
from schemas.topics import EXPOSURES
from service.access import Access
from service.assignments import Assigner, assignment_routes
from service.definition_log import DefinitionLog
from service.definition_routes import DefinitionDocument, definition_routes
from service.event_log import EventLog
from service.event_streams import EventStreams
from service.exposure_queue import ExposureQueue
from service.growthbook_routes import FeatureDocument, growthbook_routes
from service.kafka_link import KafkaLink
from service.metrics import ServiceMetrics
from service.ofrep import ofrep_routes
from service.phases import Phases
from service.schema_ids import SchemaIds, is_own_address
from service.settings import Settings
from sinks.exposed_units import ExposedUnits
from sinks.figures import IngestionFigures
from streams.definition_decoding import registered_schema, released_schema
from streams.definition_reader import DefinitionReader
from streams.live_definitions import LiveDefinitions
from streams.log_ends import LogEnds


class Assigning:
    def __init__(
        self,
        settings: Settings,
        link: KafkaLink,
        events: EventLog,
        ids: SchemaIds,
        metrics: ServiceMetrics,
        topic: str,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        schema_of = (
            released_schema
            if is_own_address(settings)
            else registered_schema(Registry(settings.registry))
        )
        self.reader = DefinitionReader(
            *(settings.kafka, schema_of, metrics.definitions),
            folder=settings.definitions.folder,
            topic=topic,
        )
        self.live = LiveDefinitions(self.reader, metrics.definitions)
        self.log = DefinitionLog(link, ids, self.reader, metrics)
        self._exposures = ExposureQueue(events, ids, metrics)
        self._assigner = Assigner(self.live, self._exposures, metrics)
        self._streams = EventStreams(self.live, metrics)
        self._units = ExposedUnits(settings.clickhouse)
        self._figures = IngestionFigures(settings.clickhouse)
        self._ends = LogEnds(settings.kafka)
        self.phases = Phases(self.log, self._units, self._all_applied, metrics)

    @property
    def checks(self) -> Mapping[str, Callable[[], Awaitable[str | None]]]:
        async def definitions() -> str | None:
            return self.reader.problem

        return {"definitions": definitions}

    async def start(self) -> None:
        await self.reader.start()
        self.log.start()
        self._exposures.start()
        self.phases.start()

    def end_streams(self) -> None:
        self._streams.end()

    async def stop(self) -> None:
        """Before the event log and the link to Kafka end."""
        self._streams.end()
        await self.phases.stop()
        await self._exposures.stop(flush_seconds=self._settings.service.shutdown_timeout_seconds)
        await self.log.stop()
        await self.reader.stop()
        await self._units.close()
        await self._figures.close()
        await self._ends.close()

    def routers(self, access: Access) -> tuple[APIRouter, ...]:
        settings = self._settings.service
        definitions = DefinitionDocument(self.live, self._assigner)
        features = FeatureDocument(self.live, self._assigner)
        return (
            assignment_routes(access, self._assigner, settings),
            definition_routes(access, definitions, self._streams),
            growthbook_routes(access, features, self._streams),
            ofrep_routes(access, self._assigner, self._metrics, settings),
        )

    async def _all_applied(self) -> Callable[[], Awaitable[bool]]:
        """Of exposures: whether what Kafka holds now can be seen in ClickHouse."""
        ends = await self._ends.read([EXPOSURES.name])

        async def is_there() -> bool:
            figures = await self._figures.read()
            applied = {(one.topic, one.partition): one.applied_offset for one in figures.partitions}
            return all(
                applied.get((place.topic, place.partition), -1) >= bounds.end - 1
                for place, bounds in ends.items()
                if bounds.end > bounds.start
            )

        return is_there
