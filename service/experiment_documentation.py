"""How OpenAPI shows the bodies of requests about definitions, from the models themselves."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel

from anabranch.definitions import Definition, Variation

Comment = Annotated[
    str,
    Query(max_length=2_000, description="Why; kept in the history and in the audit log."),
]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=1_024, description="`next_cursor` of the page before.")
]

IF_MATCH: dict[str, Any] = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": 'The ETag of what you read, such as "3": another version is refused (412). '
    "Without it a change is made on the version of now, and 409 if another comes in between.",
    "schema": {"type": "string", "maxLength": 256},
}

_MERGE_PATCH = "application/merge-patch+json"


def body_of(model: type[BaseModel], example: Any, **also: Any) -> dict[str, Any]:
    schema = {**schema_of(model), **also}
    return _body({"application/json": {"schema": schema, "example": example}})


def patch_of(model: type[BaseModel], example: Any) -> dict[str, Any]:
    """A merge patch: every field may be left out, and null takes it back to its default."""
    schema = schema_of(model)
    schema.pop("required", None)
    content = {"schema": schema, "example": example}
    found = _body({_MERGE_PATCH: content, "application/json": content})
    return {**found, "parameters": [IF_MATCH]}


def object_of(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """A small body of its own."""
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    if required:
        schema["required"] = list(required)
    found = _body({"application/json": {"schema": schema}}, required=bool(required))
    return {**found, "parameters": [IF_MATCH]}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    inlined: dict[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return inlined


def _body(content: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": content}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """OpenAPI keeps its definitions in another place than JSON Schema."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {**found, **{name: own for name, own in schema.items() if name != "$ref"}}
    return {name: _inlined(inner, definitions) for name, inner in schema.items()}


EXAMPLE = {
    "key": "npc_tone",
    "name": "Warmer tone",
    "hypothesis": "A warmer tone makes players finish more sessions.",
    "unit": "session",
    "variations": [
        {"key": "control", "weight": 5000, "params": {}},
        {"key": "warm", "weight": 5000, "params": {"tone": "warm", "max_output_tokens": 600}},
    ],
    "targeting": {"locale": {"$in": ["en", "de"]}},
    "metrics": {
        "primary": ["output_tokens"],
        "secondary": ["turn_ms"],
        "guardrails": [{"metric": "turn_ms", "max_relative_increase": 0.05}],
    },
}

NEW_EXPERIMENT = body_of(Definition, EXAMPLE)
EXPERIMENT_PATCH = patch_of(Definition, {"coverage": 2500, "name": "Warmer tone, slowly"})
NEW_VARIATION = {
    **body_of(Variation, {"key": "warmest", "weight": 2000, "params": {"tone": "warmest"}}),
    "parameters": [IF_MATCH],
}
VARIATION_PATCH = patch_of(Variation, {"params": {"max_output_tokens": 500}})
_TIME = {"type": ["string", "null"], "format": "date-time"}
SCHEDULE = object_of(
    {
        "starts_at": {**_TIME, "description": "When it starts; the definition's own when absent."},
        "stops_at": {**_TIME, "description": "When it stops by itself."},
    }
)
SCHEDULE["requestBody"]["required"] = False
CLONE = object_of(
    {
        "key": {"type": "string", "description": "Of the clone.", "examples": ["npc_tone_2"]},
        "name": {"type": "string", "description": "Of the clone; the same when absent."},
    },
    "key",
)
ROLLBACK = object_of(
    {"to_version": {"type": "integer", "minimum": 1, "description": "One of the history."}},
    "to_version",
)
CHANGING: dict[str, Any] = {"parameters": [IF_MATCH]}
