"""Limits as a caller sees them, on the whole application."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio

from service.access import Role
from service.access_settings import LimitSettings
from service.app import create_app
from service.settings import Settings

KEYS = {role: f"{role.value}-key-{'x' * 20}" for role in Role}


def headers(role: Role) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[role]}"}


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """An emitter may make three requests, and then one in 1,000 seconds."""
    settings = Settings(limits=LimitSettings(emit=0.001, burst_seconds=3_000))
    app = create_app(settings, KEYS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
        yield made


async def test_every_limited_answer_tells_what_is_left_whatever_became_of_the_request(
    client: httpx.AsyncClient,
) -> None:
    emit = headers(Role.EMIT) | {"Content-Type": "application/json"}
    answers = [
        await client.get("/v1/stats", headers=emit),
        await client.post("/v1/events", headers=emit, content=b"{"),
        await client.post("/v1/events", headers=emit, json={"events": 1}),
        await client.post("/v1/events", headers=emit, json={"events": []}),
    ]
    assert [answer.status_code for answer in answers] == [403, 400, 422, 429]
    assert {a.headers["ratelimit-policy"] for a in answers} == {'"emit";q=3;w=3000'}
    assert [a.headers["ratelimit"].split(";")[1] for a in answers] == ["r=2", "r=1", "r=0", "r=0"]


async def test_caller_beyond_the_limit_is_told_when_to_come_back(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.get("/v1/stats", headers=headers(Role.EMIT))
    refused = await client.get("/v1/stats", headers=headers(Role.EMIT))
    assert refused.status_code == 429
    assert refused.json()["type"] == "/problems/rate-limited"
    assert 990 <= int(refused.headers["retry-after"]) <= 1000
    other = await client.get("/v1/stats", headers=headers(Role.EVALUATE))
    assert other.status_code == 403


async def test_answers_that_nobody_is_limited_in_have_no_such_headers(
    client: httpx.AsyncClient,
) -> None:
    for _ in range(5):
        answer = await client.get("/healthz", headers=headers(Role.EMIT))
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers
    stranger = await client.get("/v1/stats", headers={"Authorization": "Bearer unknown"})
    assert stranger.status_code == 401
    assert "ratelimit" not in stranger.headers
