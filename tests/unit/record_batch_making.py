"""Record batches and events for tests: as clients write them, and as only an attacker would."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from fastavro import schemaless_writer
from hypothesis import strategies as st

from anabranch.registry import UnknownSchemaError
from schemas.record import schema_text
from schemas.releases import releases
from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS, TopicSpec
from streams.avro_shapes import Kind, Shape, shapes_of
from streams.writers import parsed

EMITTED = (EXPOSURES, TURN_METRICS, INVITES, OUTCOMES)
NOON = 1_767_225_600_000
_HEAD = struct.Struct(">qiibIhiqqqhii")


class Made(NamedTuple):
    """A record to be."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int = NOON
    headers: tuple[tuple[str, bytes | None], ...] = ()


def batch(
    made: Sequence[Made], first: int = 0, codec: int = 0, *, log_append: bool = False
) -> bytes:
    """As aiokafka's producer writes it and a broker numbers it."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 30)
    for delta, record in enumerate(made):
        headers = list(record.headers)
        builder.append(delta, record.timestamp_ms, record.key, record.value, headers)
    data = bytearray(builder.build())
    return changed(data, first=first, attributes=0x08 if log_append else 0)


def changed(
    data: bytes | bytearray, *, first: int, attributes: int = 0, producer: int = -1
) -> bytes:
    """With another first offset and more attributes, and a checksum that fits."""
    head = list(_HEAD.unpack_from(data))
    head[0], head[5], head[9] = first, head[5] | attributes, producer
    body = bytes(data[_HEAD.size :])
    head[4] = calc_crc32c(_HEAD.pack(*head)[21:] + body)
    return _HEAD.pack(*head) + body


def raw_batch(body: bytes, count: int, first: int = 0, last_delta: int | None = None) -> bytes:
    """Around records that are given as bytes, whatever they are."""
    last_delta = count - 1 if last_delta is None else last_delta
    length = _HEAD.size - 12 + len(body)
    head = (first, length, 0, 2, 0, 0, last_delta, NOON, NOON, -1, -1, -1, count)
    return changed(_HEAD.pack(*head) + body, first=first)


def varint(number: int) -> bytes:
    zigzag = (number << 1) ^ (number >> 63)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes((*out, zigzag))


def raw_record(
    offset_delta: int, key: bytes | None, value: bytes, *, longer: int = 0, value_longer: int = 0
) -> bytes:
    """Kafka's framing around a value; it may say more bytes, or fewer, than there are."""
    framed_key = varint(-1) if key is None else varint(len(key)) + key
    inside = b"\0" + varint(0) + varint(offset_delta) + framed_key
    inside += varint(len(value) + value_longer) + value + b"\0"
    return varint(len(inside) + longer) + inside


def schema_id(spec: TopicSpec) -> int:
    return next(release.id for release in releases() if release.subject == spec.subject)


def registry(**more: str) -> Callable[[int], str]:
    """Our releases, and those given as `id_9='...'`."""
    known = {release.id: release.schema_text for release in releases()}
    known |= {int(name.removeprefix("id_")): text for name, text in more.items()}

    def schema_of(schema_id: int) -> str:
        try:
            return known[schema_id]
        except KeyError:
            raise UnknownSchemaError(f"no schema {schema_id}") from None

    return schema_of


def encoded(text: str, number: int, event: dict[str, Any]) -> bytes:
    """An event in the wire format, by the schema with this text and id."""
    out = BytesIO(b"\0" + number.to_bytes(4, "big"))
    out.seek(5)
    schemaless_writer(out, parsed(text), event)
    return out.getvalue()


def values_of(spec: TopicSpec) -> st.SearchStrategy[tuple[dict[str, Any], bytes]]:
    """Events of any content, valid or not, and their bytes."""
    text = schema_text(spec.schema)
    return events_of(text).map(lambda event: (event, encoded(text, schema_id(spec), event)))


def events_of(text: str) -> st.SearchStrategy[dict[str, Any]]:
    shapes = shapes_of(json.loads(text))
    return st.fixed_dictionaries({shape.name: _values(shape) for shape in shapes})


def _values(shape: Shape) -> st.SearchStrategy[Any]:
    plain: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.TEXT: st.text(max_size=6) | st.sampled_from(["x" * 63, "x" * 64, "é" * 100]),
        Kind.BYTES: st.binary(max_size=6),
        Kind.INT: _numbers(32),
        Kind.LONG: _numbers(64) | st.just(NOON),
        Kind.DOUBLE: st.floats(),
    }
    if shape.kind is not Kind.LIST:
        values = plain[shape.kind]
    elif shape.of_records:
        items = st.fixed_dictionaries({item.name: _values(item) for item in shape.items})
        values = st.lists(items, max_size=3)
    else:
        values = st.lists(_values(shape.items[0]), max_size=3)
    return st.none() | values if shape.nullable else values


def _numbers(bits: int) -> st.SearchStrategy[int]:
    """Those around a change of length are the ones that matter."""
    most = (1 << bits - 1) - 1
    edges = [1 << shift for shift in range(6, bits - 1, 7)]
    near = [edge + by for edge in edges for by in (-1, 0, 1)]
    special = st.sampled_from([0, -1, most, -most - 1, *near, *(-number for number in near)])
    return st.integers(-70, 70) | special | st.integers(-most - 1, most)
