"""How OpenAPI shows the body of POST /v1/events, from the generated classes themselves."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from anabranch.fields import Event
from service.event_reading import ACCEPTED

_GENERATED = frozenset({"event_id", "ts"})


def _event_schema(event: type[Event]) -> dict[str, Any]:
    schema = TypeAdapter(event).json_schema()
    inlined = _inline(schema, schema.pop("$defs", {}))
    return {
        **inlined,
        "properties": {"type": {"const": event.TYPE}, **inlined["properties"]},
        "required": ["type", *inlined.get("required", [])],
        "additionalProperties": False,
    }


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """Without references: OpenAPI keeps its definitions in another place than JSON Schema."""
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(inner, definitions) for name, inner in schema.items()}


def _example(event: type[Event], schema: dict[str, Any]) -> dict[str, Any]:
    shown = {
        name: field["examples"][0]
        for name, field in schema["properties"].items()
        if field.get("examples") and name not in _GENERATED
    }
    return {"type": event.TYPE, **shown}


_SCHEMAS = {event: _event_schema(event) for event in ACCEPTED.values()}
EXAMPLES = {event.TYPE: _example(event, schema) for event, schema in _SCHEMAS.items()}

EVENTS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["events"],
                "additionalProperties": False,
                "properties": {
                    "events": {"type": "array", "items": {"oneOf": list(_SCHEMAS.values())}}
                },
            },
            "examples": {
                "one of each": {
                    "summary": "One event of each type; event_id and ts are filled in",
                    "value": {"events": list(EXAMPLES.values())},
                },
                **{kind: {"value": {"events": [event]}} for kind, event in EXAMPLES.items()},
            },
        }
    },
}
