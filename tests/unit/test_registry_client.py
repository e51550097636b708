from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request

import pytest
from pydantic import SecretStr

from anabranch.registry import (
    UNKNOWN_FOR_SECONDS,
    Registry,
    RegistryAccessError,
    RegistryError,
    RegistryUnavailableError,
    Response,
    SchemaRefusedError,
    UnknownSchemaError,
)
from anabranch.settings import RegistrySettings

SCHEMA = '{"type": "string"}'


class Answers:
    """Stands where urllib's opener stands; the live test holds the real one to the same."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Request] = []
        self.waits: list[float] = []
        self.now = 0.0

    def open(self, request: Request, timeout: float) -> Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def registry(self, **settings: Any) -> Registry:
        return Registry(
            RegistrySettings(url="http://registry:8081/", **settings),
            opener=self.open,
            sleep=self.waits.append,
            clock=lambda: self.now,
        )


def refusal(status: int, message: str = "no") -> HTTPError:
    body = io.BytesIO(json.dumps({"error_code": status, "message": message}).encode())
    return HTTPError("http://registry", status, "reason", Message(), body)


def test_register_sends_the_schema_on_one_line_and_asks_once() -> None:
    answers = Answers({"id": 7})
    registry = answers.registry()
    assert [registry.register("a/b-value", SCHEMA) for _ in range(3)] == [7, 7, 7]
    assert len(answers.requests) == 1
    assert answers.requests[0].full_url == "http://registry:8081/subjects/a%2Fb-value/versions"
    assert answers.requests[0].data == b'{"schema": "{\\"type\\":\\"string\\"}"}'


def test_schema_asks_once_for_many_threads_that_wait() -> None:
    answers = Answers({"schema": SCHEMA})
    go_on, asked = threading.Event(), threading.Event()
    original = answers.open

    def slow(request: Request, timeout: float) -> Response:
        asked.set()
        assert go_on.wait(10)
        return original(request, timeout)

    registry = Registry(RegistrySettings(url="http://registry"), opener=slow)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(registry.schema, 1) for _ in range(8)]
        assert asked.wait(10)
        go_on.set()
        assert {future.result() for future in waiting} == {SCHEMA}
    assert len(answers.requests) == 1


def test_ask_tries_again_with_growing_waits_when_the_registry_fails() -> None:
    answers = Answers(refusal(503), URLError("refused"), {"schema": SCHEMA})
    assert answers.registry().schema(1) == SCHEMA
    assert len(answers.waits) == 2
    assert 0 <= answers.waits[0] <= 0.2
    assert 0 <= answers.waits[1] <= 0.4


def test_ask_gives_up_with_what_was_asked_and_is_asked_anew_later() -> None:
    answers = Answers(*[URLError("refused")] * 4, {"schema": SCHEMA})
    registry = answers.registry()
    with pytest.raises(
        RegistryUnavailableError, match="GET http://registry:8081/schemas/ids/1: refused"
    ):
        registry.schema(1)
    assert registry.schema(1) == SCHEMA


def test_unknown_schema_is_remembered_for_some_seconds_only() -> None:
    answers = Answers(refusal(404), {"schema": SCHEMA})
    registry = answers.registry()
    for _ in range(2):
        with pytest.raises(UnknownSchemaError):
            registry.schema(1)
    assert len(answers.requests) == 1
    answers.now = UNKNOWN_FOR_SECONDS + 1
    assert registry.schema(1) == SCHEMA


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, RegistryAccessError),
        (403, RegistryAccessError),
        (409, SchemaRefusedError),
        (422, SchemaRefusedError),
    ],
)
def test_refusal_is_not_tried_again(status: int, error: type[RegistryError]) -> None:
    answers = Answers(refusal(status, "incompatible"))
    with pytest.raises(error, match=f"{status} incompatible"):
        answers.registry().register("s", SCHEMA)
    assert len(answers.requests) == 1


def test_answer_that_is_not_json_names_the_address() -> None:
    with pytest.raises(RegistryError, match="is it a schema registry"):
        Answers(b"<html>").registry().versions("s")


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"username": "me", "password": SecretStr("pass")}, "Basic bWU6cGFzcw=="),
        ({"token": SecretStr("abc"), "username": "me"}, "Bearer abc"),
        ({}, None),
    ],
    ids=["basic", "bearer", "none"],
)
def test_credentials_never_follow_a_redirect(settings: dict[str, Any], header: str | None) -> None:
    answers = Answers([1])
    answers.registry(**settings).versions("s")
    request = answers.requests[0]
    assert request.unredirected_hdrs.get("Authorization") == header
    assert "Authorization" not in request.headers


def test_registry_refuses_an_address_that_is_not_http() -> None:
    with pytest.raises(RegistryError, match="must begin with http"):
        Registry(RegistrySettings(url="file:///etc/passwd"))
