"""Whatever the OpenAPI document allows, and much that it does not: never an answer of 5xx."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok

from service.access import Role
from sinks.migrate import migrate
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.service_fixture import Service

EXAMPLES_AN_OPERATION = 25
STREAMS = {"/v1/definitions/stream", "/sub/{client_key}"}
"""Their answers do not end; test_streams.py and test_experiments_sdk.py read them."""


def test_no_request_makes_the_service_fail(service: Service, clickhouse: ClickHouse) -> None:
    asyncio.run(migrate(clickhouse.settings))  # without tables, figures are a 503 and rightly so
    document = httpx.get(f"{service.url}/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    answered = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), f"the document is wrong: {found}"
        operation = found.ok()
        if operation.path in STREAMS:
            continue

        @given(operation.as_strategy())
        @settings(
            max_examples=EXAMPLES_AN_OPERATION,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def probe(case: schemathesis.Case[Any]) -> None:
            nonlocal answered
            answer = case.call(base_url=service.url, headers=service.headers(Role.ADMIN))
            answered += 1
            assert answer.status_code < 500, f"{case.as_curl_command()}\n{answer.text}"

        probe()
    assert answered > 200
