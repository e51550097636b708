"""Real parts for the live tests: one Kafka and one ClickHouse a session, on free ports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.clickhouse_fixture import clickhouse as clickhouse
from tests.live.clickhouse_fixture import own_clickhouse as own_clickhouse
from tests.live.kafka_fixture import kafka as kafka
from tests.live.kafka_fixture import own_kafka as own_kafka
from tests.live.service_fixture import service as service
from tests.live.stack_fixture import shared_stack as shared_stack
from tests.live.stack_fixture import stack as stack
from tests.live.worker_fixture import around as around
from tests.live.worker_fixture import shared_worker as shared_worker
from tests.live.worker_fixture import worker as worker

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.live)
