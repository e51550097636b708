"""The doors to definitions as the OpenAPI document shows them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.access import Role
from service.app import create_app
from service.settings import Settings

TAGS = {"experiments", "metrics", "holdouts", "groups", "parameter sets", "limits"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    keys = {role: f"{role.value}-{'k' * 20}" for role in Role}
    return create_app(Settings(), keys).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if TAGS & set(operation.get("tags", ())):
                yield f"{method} {path}", operation


def undescribed(schema: Any, document: dict[str, Any], place: str, seen: set[str]) -> Iterator[str]:
    if isinstance(schema, list):
        for one in schema:
            yield from undescribed(one, document, place, seen)
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name not in seen:
            seen.add(name)
            yield from undescribed(document["components"]["schemas"][name], document, name, seen)
    for name, inner in schema.get("properties", {}).items():
        if "description" not in inner:
            yield f"{place}.{name}"
    for inner in schema.values():
        yield from undescribed(inner, document, place, seen)


def test_every_field_of_every_body_and_answer_is_described(document: dict[str, Any]) -> None:
    found = dict(operations(document))
    assert len(found) > 35
    missing: list[str] = []
    for place, operation in found.items():
        assert operation["description"], place
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query" and parameter["name"] not in ("tag", "owner"):
                assert parameter.get("description") or parameter["schema"].get("description"), place
        answers = [code for code in operation["responses"] if code.startswith("2")]
        assert len(answers) == 1, place
        parts = (operation.get("requestBody", {}), operation["responses"][answers[0]])
        for part in parts:
            for content in part.get("content", {}).values():
                missing += undescribed(content["schema"], document, place, set())
    assert sorted(set(missing)) == []


def test_whatever_changes_something_may_be_refused_in_all_the_ways_there_are(
    document: dict[str, Any],
) -> None:
    for place, operation in operations(document):
        if not place.startswith("get"):
            assert {"403", "404", "409", "412", "422", "503"} <= set(operation["responses"]), place
            names = [parameter["name"] for parameter in operation["parameters"]]
            assert "comment" in names, place
