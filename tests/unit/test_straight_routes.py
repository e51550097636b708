"""Which endpoints go past the framework, and that nobody can tell from outside."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.testclient import TestClient

from anabranch.settings import KafkaSettings
from service.access import Role
from service.app import create_app
from service.settings import Settings
from service.straight_routes import Straight, takes_bare_request


async def bare(request: Request) -> Response:
    return Response(request.url.path)


async def of_a_key(request: Request, key: str) -> Response:
    return Response(key + request.url.path)


async def of_a_model(request: Request) -> dict[str, str]:
    return {"path": request.url.path}


def test_endpoint_goes_straight_when_it_takes_a_request_and_makes_a_response() -> None:
    assert takes_bare_request("/v1/assign", bare)
    assert not takes_bare_request("/v1/{key}", bare)
    assert not takes_bare_request("/v1/assign", of_a_key)
    assert not takes_bare_request("/v1/assign", of_a_model)


def test_guards_limits_and_headers_are_the_same_on_both_ways() -> None:
    settings = Settings(kafka=KafkaSettings(bootstrap="127.0.0.1:1"))
    app = create_app(settings, {Role.EVALUATE: "e" * 32, Role.VIEWER: "v" * 32})
    straight = {
        route.path
        for route in app.routes
        if isinstance(route, Straight) and route.straight is not None
    }
    assert {"/v1/assign", "/v1/events", "/ofrep/v1/evaluate/flags"} <= straight
    common = {"X-Request-Id": "1", "Content-Type": "application/json"}
    asks: list[tuple[dict[str, str], bytes]] = [
        ({}, b"{}"),
        ({"Authorization": "Bearer wrong"}, b"{}"),
        ({"Authorization": f"Bearer {'v' * 32}"}, b"{}"),
        ({"Authorization": f"Bearer {'e' * 32}"}, b"{"),
        ({"Authorization": f"Bearer {'e' * 32}"}, b"x" * 20_000_000),
    ]
    found = []
    for root_path in ("", "/below"):
        client = TestClient(app, root_path=root_path)
        answers = [
            client.post("/v1/assign", content=body, headers=headers | common)
            for headers, body in asks
        ]
        answers.append(client.get("/v1/assign"))
        found.append(
            [
                (
                    answer.status_code,
                    answer.json() | {"instance": ""},
                    sorted(name for name in answer.headers if name != "ratelimit"),
                )
                for answer in answers
            ]
        )
    by_straight, by_framework = found
    assert [status for status, *_ in by_straight] == [401, 401, 403, 400, 413, 405]
    assert by_straight[:-1] == by_framework[:-1]
