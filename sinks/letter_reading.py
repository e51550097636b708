"""Whether a dead letter that still can be read carries an experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_reader

from schemas.releases import releases
from schemas.topics import TOPICS

READABLE = ("invalid", "time_out_of_range", "refused_by_store")
"""Reasons of letters that were decoded before something else was found wrong with them."""

_HEAD_BYTES = 5  # the magic byte and the id of the schema


def carries(topic: str, value: bytes, experiment: str) -> bool:
    """By any schema that was ever released for the topic: ids are those of the registry."""
    return any(
        experiment in _experiments(event)
        for schema in _schemas(topic)
        if (event := _decoded(schema, value)) is not None
    )


def _experiments(event: Mapping[str, Any]) -> list[str]:
    if "experiment" in event:
        return [event["experiment"]]
    return [one["experiment"] for one in event.get("exposures", ())]


def _decoded(schema: Any, value: bytes) -> Mapping[str, Any] | None:
    body = BytesIO(value[_HEAD_BYTES:])
    try:
        event = schemaless_reader(body, schema, None)
    except (EOFError, ValueError, LookupError, TypeError, OverflowError, MemoryError):
        return None  # bytes of another schema, or of none
    is_whole = body.tell() == len(value) - _HEAD_BYTES
    return event if is_whole and isinstance(event, dict) else None


@cache
def _schemas(topic: str) -> tuple[Any, ...]:
    subjects = {spec.subject for spec in TOPICS if spec.name == topic}
    return tuple(
        parse_schema(json.loads(release.schema_text))
        for release in releases()
        if release.subject in subjects
    )
