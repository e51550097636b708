"""From an event to the bytes that Kafka keeps: Avro in the Confluent wire format."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro

from anabranch.fields import Event
from service.event_log import Record

# Well under what a topic takes in one batch (schemas/topics.py): a record Kafka refuses would
# cost the whole batch that it travels in.
LARGEST_VALUE = 256 * 1024


class EventEncoder:
    def __init__(self, ids: Mapping[str, int], events: tuple[type[Event], ...]) -> None:
        self._writers = {
            event: (
                event.TOPIC,
                event.KEY,
                b"\x00" + ids[event.TOPIC].to_bytes(4, "big"),
                fastavro.parse_schema(_without_logical_types(json.loads(event.SCHEMA))),
            )
            for event in events
        }

    def encode(self, event: Event) -> Record:
        topic, key, head, schema = self._writers[type(event)]
        value = io.BytesIO()
        value.write(head)
        fastavro.schemaless_writer(value, schema, event.avro())
        return Record(topic, getattr(event, key).encode(), value.getvalue())


def _without_logical_types(schema: Any) -> Any:
    """A writer of times as plain numbers is twice as fast, and the bytes are the same."""
    if isinstance(schema, dict):
        return {k: _without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    if isinstance(schema, list):
        return [_without_logical_types(item) for item in schema]
    return schema
