"""From an event to the bytes in Kafka: key, Avro in the Confluent wire format, partition."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from operator import attrgetter
from typing import Any

from aiokafka.partitioner import murmur2
from fastavro import parse_schema, schemaless_writer

from anabranch.fields import Event

_MAGIC = b"\0"


class Encoder:
    """One type of event under one schema id."""

    def __init__(self, kind: type[Event], schema_id: int) -> None:
        self._key: Callable[[Event], str] = attrgetter(kind.KEY)
        self._head = _MAGIC + schema_id.to_bytes(4, "big")
        # Without logical types times are plain integers, which `Event.avro` gives.
        self._schema = parse_schema(without_logical_types(json.loads(kind.SCHEMA)))

    def encode(self, event: Event) -> tuple[bytes, bytes]:
        """Key and value. Raises whatever fastavro raises for what does not fit the schema."""
        out = BytesIO()
        out.write(self._head)
        schemaless_writer(out, self._schema, event.avro())
        return self._key(event).encode(), out.getvalue()


def without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {
            name: without_logical_types(value)
            for name, value in schema.items()
            if name != "logicalType"
        }
    if isinstance(schema, list):
        return [without_logical_types(item) for item in schema]
    return schema


# In Python this hash costs 4 us, and sessions and players come again and again.
@lru_cache(maxsize=65_536)
def _hash(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """As the Java client and every other of Kafka's own clients choose it."""
    return _hash(key) % partitions
