"""The whole application without a socket: nothing it depends on is there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from anabranch.events import EVENT_TYPES, Outcome
from anabranch.fields import now_ms
from service.access import Permission, Role
from service.app import create_app
from service.event_documentation import EXAMPLES
from service.event_reading import read_event
from service.problems import Kind
from service.settings import Settings

KEYS = {role: f"{role.value}-{'k' * 20}" for role in Role}
PUBLIC_PATHS = re.compile(
    r"/|/(healthz|readyz|metrics|openapi\.json)|/(docs|problems|subjects|schemas|compatibility|"
    r"config|mode)(/.*)?|/(api/features|sub)/\{client_key\}"
)
# The last two have their key in the path, and ask for it themselves.


@pytest.fixture
def app() -> FastAPI:
    return create_app(Settings(), KEYS)


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {KEYS[Role.EMIT]}"},
    )


def test_every_route_declares_a_permission_and_only_the_named_ones_are_public(app: FastAPI) -> None:
    assert len(app.routes) > 20
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is not guarded"
        permission = getattr(route, "permission", None)
        assert isinstance(permission, Permission), f"{route.path} declares no permission"
        public = permission is Permission.PUBLIC
        assert public == bool(PUBLIC_PATHS.fullmatch(route.path)), route.path


async def test_unknown_path_and_wrong_method_are_problems(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    wrong = await client.put("/v1/events")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    assert wrong.headers["allow"] == "POST"
    assert "POST" in wrong.json()["detail"]


async def test_problem_has_every_member_and_its_type_leads_to_its_meaning(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/v1/nothing", headers={"X-Request-Id": "abc-1"})
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == 404
    assert problem["instance"] == "/v1/nothing"
    assert problem["request_id"] == answer.headers["x-request-id"] == "abc-1"
    explained = (await client.get(problem["type"])).json()
    assert explained["title"] == problem["title"]
    assert {kind["type"] for kind in (await client.get("/problems")).json()} == {
        f"/problems/{kind.slug}" for kind in Kind
    }


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "{}", 'a"b'])
async def test_request_id_that_could_spoil_a_log_is_replaced(
    client: httpx.AsyncClient, given: str
) -> None:
    answer = await client.get(
        "/healthz", headers={"X-Request-Id": given.encode().decode("latin-1")}
    )
    assert re.fullmatch(r"[0-9a-f]{24}", answer.headers["x-request-id"])


async def test_bug_is_answered_without_its_details(app: FastAPI) -> None:
    async def broken() -> None:
        raise RuntimeError("the inside of the service")

    app.router.routes.append(APIRoute("/broken", broken))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as client:
        answer = await client.get("/broken")
    assert answer.status_code == 500
    assert answer.json()["type"] == "/problems/internal-error"
    assert "inside" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_answer_carries_safe_headers(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/nothing", "/docs", "/subjects"):
        headers = (await client.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.assets: list[str] = []
        self.inline: list[str] = []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in_script = tag in {"script", "style"}
        self.assets += [v for k, v in attrs if k in {"src", "href"} and v is not None]
        self.inline += [k for k in given if k.startswith("on") or k == "style"]

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


async def test_documentation_needs_nothing_from_elsewhere_and_no_inline_script(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/docs")
    page = Page(answer.text)
    assert page.inline == []
    assert len(page.assets) >= 4
    for asset in page.assets:
        assert asset.startswith("/")
        assert not asset.startswith("//")
        assert (await client.get(asset)).status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy


async def test_openapi_document_describes_events_with_examples_that_are_right(
    client: httpx.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    post = document["paths"]["/v1/events"]["post"]
    shown = post["requestBody"]["content"]["application/json"]["examples"]["one of each"]["value"]
    assert [event["type"] for event in shown["events"]] == list(EXAMPLES)
    for event in shown["events"]:
        assert event["type"] == read_event(event, now_ms()).TYPE
    assert post["security"] == [{"key": []}, {"basic": []}]
    assert {"202", "400", "401", "403", "413", "415", "422", "503"} <= set(post["responses"])
    assert set(document["components"]["securitySchemes"]) == {"key", "basic"}


async def test_readiness_before_the_first_check_is_not_ready_by_name_and_reason(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    states = answer.json()["dependencies"]
    assert set(states) == {"kafka", "topics", "schemas", "clickhouse", "audit", "definitions"}
    assert {state["reason"] for state in states.values()} == {"not checked yet"}


async def test_every_metric_is_explained_and_counts_requests_by_route(
    client: httpx.AsyncClient,
) -> None:
    await client.get("/problems/forbidden")
    figures = (await client.get("/metrics")).text
    assert (
        'anabranch_http_requests_total{method="GET",route="/problems/{slug}",status="200"} 1.0'
        in figures
    )
    for name in re.findall(r"# TYPE (anabranch_\w+)", figures):
        explained = re.search(rf"# HELP {name} (.+)", figures)
        assert explained is not None, name
        assert len(explained.group(1)) > 20, name


async def test_events_are_judged_one_by_one_even_while_kafka_is_away(
    client: httpx.AsyncClient,
) -> None:
    bad: list[Any] = [{"type": "outcome"}, None]
    answer = await client.post("/v1/events", json={"events": bad})
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 0
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [0, 1]
    good = {"type": "outcome", "unit": "u", "values": {"cost": 1}}
    refused = await client.post("/v1/events", json={"events": [good]})
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/kafka-unavailable"
    assert int(refused.headers["retry-after"]) > 0


async def test_registry_finds_a_schema_by_what_it_means_not_by_its_spaces(
    client: httpx.AsyncClient,
) -> None:
    subject = f"/subjects/{Outcome.TOPIC}-value"
    spaced = json.dumps(json.loads(Outcome.SCHEMA), indent=5)
    found = await client.post(subject, json={"schema": spaced})
    assert found.status_code == 200
    by_id = await client.get(f"/schemas/ids/{found.json()['id']}")
    assert json.loads(by_id.json()["schema"])["name"] == "Outcome"
    assert len((await client.get("/subjects")).json()) >= len(EVENT_TYPES)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param("", id="nothing"),
        pytest.param("{", id="no JSON"),
        pytest.param("3", id="a number"),
        pytest.param("null", id="null"),
        pytest.param('"\\ud800"', id="a lone surrogate"),
        pytest.param("[" * 100, id="an endless nesting"),
        pytest.param('{"type":{}}', id="an empty type"),
        pytest.param('{"type":"record"}', id="a record without a name"),
        pytest.param('{"type":"array"}', id="an array of nothing"),
        pytest.param('{"type":["null",3]}', id="a union with a number"),
        pytest.param('{"type":"record","name":"x","fields":[3]}', id="a field that is a number"),
    ],
)
async def test_registry_refuses_what_is_no_schema(client: httpx.AsyncClient, schema: str) -> None:
    for path in (
        f"/subjects/{Outcome.TOPIC}-value",
        f"/subjects/{Outcome.TOPIC}-value/versions",
        f"/compatibility/subjects/{Outcome.TOPIC}-value/versions/latest",
    ):
        answer = await client.post(path, json={"schema": schema})
        assert answer.status_code == 422
        assert answer.json()["error_code"] == 42201


async def test_registry_refuses_a_schema_that_would_take_long_to_compare(
    client: httpx.AsyncClient,
) -> None:
    fields = [{"name": f"f{number}", "type": "string"} for number in range(2000)]
    schema = json.dumps({"type": "record", "name": "Outcome", "fields": fields})
    for path in (
        f"/subjects/{Outcome.TOPIC}-value",
        f"/subjects/{Outcome.TOPIC}-value/versions",
        f"/compatibility/subjects/{Outcome.TOPIC}-value/versions",
    ):
        answer = await client.post(path, json={"schema": schema})
        assert answer.status_code == 413
        assert "32,768 characters" in answer.json()["message"]
