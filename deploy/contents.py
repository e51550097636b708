"""What has to be in Kafka and ClickHouse before the service starts."""

from __future__ import annotations

from deploy.steps import Event, Report
from service.errors import CommandError
from service.settings import Settings
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.migrate import MigrationError, migrate
from streams.topic_admin import TopicError, ensure_topics


async def make_topics(settings: Settings, report: Report) -> None:
    try:
        made = await ensure_topics(settings.kafka, settings.topics)
    except TopicError as error:
        raise CommandError(str(error)) from error
    for difference in made.differences:
        report(Event("says", f"topic left as it is: {difference}"))


async def make_tables(settings: Settings) -> None:
    try:
        await migrate(settings.clickhouse)
    except (MigrationError, ClickHouseUnavailable, ClickHouseRefused) as error:
        raise CommandError(str(error)) from error
