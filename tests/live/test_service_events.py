"""POST /v1/events on the real service, and what Kafka then holds."""

from __future__ import annotations

import asyncio
import gzip
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.access import Role
from tests.live.event_topics import stored_events
from tests.live.kafka_fixture import Broker
from tests.live.service_fixture import Service


def outcome(**fields: Any) -> dict[str, Any]:
    return {"type": "outcome", "unit": "u1", "values": {"cost": 1.5}, **fields}


ONE_OF_EACH: list[dict[str, Any]] = [
    {
        "type": "exposure",
        "exposure_id": "x1",
        "experiment": "npc_tone",
        "version": 1,
        "variation": "warm",
        "unit": "u1",
        "attributes": {"locale": "en"},
    },
    {
        "type": "turn_metric",
        "session": "s1",
        "player": "p1",
        "locale": "en",
        "exposures": [{"experiment": "npc_tone", "version": 1, "variation": "warm", "unit": "u1"}],
        "turn_ms": 812,
        "model_ms": 640,
        "bundle_tokens": 900,
        "output_tokens": 120,
        "retries": 0,
        "fallbacks": 0,
        "tool_calls": 1,
        "acts": 1,
        "choices": 3,
        "time_ticks": 2,
    },
    {
        "type": "invite",
        "kind": "sent",
        "invite_id": "i1",
        "loop": "friends",
        "inviter": "u1",
        "smart_link_code": "abc",
    },
    outcome(dimensions={"plan": "free"}),
]


async def publish(service: Service, events: Any, role: Role = Role.EMIT) -> httpx.Response:
    async with service.client(role) as client:
        return await client.post("/v1/events", json={"events": events})


async def test_one_event_of_each_type_is_in_kafka_when_it_is_acknowledged(
    service: Service, kafka: Broker
) -> None:
    mark = uuid.uuid4().hex
    answer = await publish(
        service, [{**event, "event_id": f"{mark}-{event['type']}"} for event in ONE_OF_EACH]
    )
    assert answer.status_code == 202, answer.text
    assert answer.json() == {"accepted": 4, "rejected": []}
    for topic, kind, key in (
        ("exposures.v1", "exposure", b"u1"),
        ("turn-metrics.v1", "turn_metric", b"s1"),
        ("invites.v1", "invite", b"u1"),
        ("outcomes.v1", "outcome", b"u1"),
    ):
        stored = [
            found
            for found in await stored_events(kafka.settings, topic)
            if found.event["event_id"] == f"{mark}-{kind}"
        ]
        assert len(stored) == 1
        assert stored[0].key == key
        assert stored[0].headers == ()


async def test_values_arrive_as_they_were_sent(service: Service, kafka: Broker) -> None:
    event_id = uuid.uuid4().hex
    at = datetime(datetime.now(UTC).year, datetime.now(UTC).month, 1, tzinfo=UTC)
    await publish(
        service,
        [
            outcome(
                event_id=event_id,
                ts=at.isoformat().replace("+00:00", "Z"),
                values={"kosten": 1e-9, "count": 3},
                dimensions={"stadt": "Zürich \N{SNOWMAN}"},
            )
        ],
    )
    stored = [
        found.event
        for found in await stored_events(kafka.settings, "outcomes.v1")
        if found.event["event_id"] == event_id
    ]
    assert stored == [
        {
            "event_id": event_id,
            "ts": at,
            "unit": "u1",
            "values": [{"name": "kosten", "value": 1e-9}, {"name": "count", "value": 3.0}],
            "dimensions": [{"name": "stadt", "value": "Zürich \N{SNOWMAN}"}],
        }
    ]


async def test_good_events_are_accepted_beside_bad_ones_which_come_back_with_index_and_reason(
    service: Service,
) -> None:
    answer = await publish(
        service,
        [
            outcome(),
            {"type": "outcomes"},
            outcome(),
            outcome(ts=0),
            outcome(ts="2200-01-01T00:00:00Z"),
            outcome(unit="u\0"),
            outcome(untis="x"),
            {**ONE_OF_EACH[2], "kind": "lost"},
            "not an event",
        ],
    )
    assert answer.status_code == 202
    body = answer.json()
    assert body["accepted"] == 2
    said = {rejected["index"]: rejected["error"] for rejected in body["rejected"]}
    assert sorted(said) == [1, 3, 4, 5, 6, 7, 8]
    assert "exposure, turn_metric, invite, outcome" in said[1]
    assert "400 days" in said[3]
    assert "10 minutes ahead" in said[4]
    assert "U+0000" in said[5]
    assert "did you mean unit" in said[6]
    assert "sent, joined, fvm" in said[7]
    assert "a text" in said[8] or "a string" in said[8]


async def test_gzip_body_is_taken(service: Service) -> None:
    body = gzip.compress(json.dumps({"events": [outcome()] * 500}).encode())
    async with service.client() as client:
        answer = await client.post(
            "/v1/events",
            content=body,
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )
    assert answer.json()["accepted"] == 500


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        pytest.param(b'{"events":[', 400, "line 1, column", id="cut off"),
        pytest.param(b'{"events":[{"ts":NaN}]}', 400, "column 18", id="NaN"),
        pytest.param(b'{"events":[{"x":Infinity}]}', 400, "column 17", id="Infinity"),
        pytest.param(b'{"events":[{"x":1e999}]}', 400, "infinity", id="an infinite number"),
        pytest.param(b'{"events":["\\ud800"]}', 400, "surrogate", id="a lone surrogate"),
        pytest.param(b'{"events":[{"a":1,"a":2}]}', 422, "'a' twice", id="a name twice"),
        pytest.param(b'{"events":[' + b"[" * 200 + b"]" * 200 + b"]}", 422, "32", id="deep"),
        pytest.param(b"[]", 422, "an array", id="an array"),
        pytest.param(b"{}", 422, "missing", id="no events"),
        pytest.param(b'{"events":{}}', 422, "an object", id="events that are no array"),
        pytest.param(b'{"event":[]}', 422, "'event' is not known", id="another member"),
        pytest.param(b'{"events":[' + b"0," * 10_000 + b"0]}", 413, "10,000", id="too many"),
    ],
)
async def test_body_that_is_wrong_as_a_whole_is_a_problem_that_says_where(
    service: Service, body: bytes, status: int, said: str
) -> None:
    async with service.client() as client:
        answer = await client.post(
            "/v1/events", content=body, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


async def test_body_of_100_megabytes_is_refused_declared_or_in_chunks(service: Service) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000_000

    for content in (b" " * 100_000_000, chunks()):
        async with service.client() as client:
            answer = await client.post(
                "/v1/events", content=content, headers={"Content-Type": "application/json"}
            )
        assert answer.status_code == 413
        assert "10,000,000 bytes" in answer.json()["detail"]


async def test_only_emitters_and_admins_may_write(service: Service) -> None:
    assert (await publish(service, [outcome()], Role.EMIT)).status_code == 202
    assert (await publish(service, [outcome()], Role.ADMIN)).status_code == 202
    for role in (Role.VIEWER, Role.EXPERIMENTER, Role.EVALUATE):
        assert (await publish(service, [outcome()], role)).status_code == 403
    async with httpx.AsyncClient(base_url=service.url) as stranger:
        assert (await stranger.post("/v1/events", content=b"{")).status_code == 401


async def test_client_that_leaves_does_not_hold_a_place(service: Service) -> None:
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        head = "\r\n".join(
            (
                "POST /v1/events HTTP/1.1",
                "Host: x",
                f"Authorization: {service.headers()['Authorization']}",
                "Content-Type: application/json",
                "Content-Length: 900",
            )
        )
        writer.write(f"{head}\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with service.client() as client:
        for _ in range(50):
            figures = (await client.get("/metrics")).text
            # The one is the request for the figures itself.
            if "anabranch_http_requests_in_flight 1.0" in figures:
                break
            await asyncio.sleep(0.05)
    assert "anabranch_http_requests_in_flight 1.0" in figures
    assert "anabranch_events_in_flight 0.0" in figures


async def test_secrets_never_reach_the_log(service: Service) -> None:
    async with service.client(Role.VIEWER) as client:
        await client.get("/readyz", params={"token": "s3cret-in-a-query"})
        await client.post("/v1/events", json={"events": ["s3cret-in-a-body"]})
    output = service.output.read_text()
    assert "s3cret" not in output
    assert not any(key in output for key in service.keys.values())
    lines = [json.loads(line) for line in output.splitlines()]
    assert any(line.get("route") == "/v1/events" and line["status"] == 403 for line in lines)
