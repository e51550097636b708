"""Old writers and new readers: what a schema id that is not the current one turns into."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from anabranch.registry import UnknownSchemaError
from schemas.record import schema_text
from schemas.topics import TURN_METRICS
from streams.columns import Columns, Decoded
from streams.record_batches import split
from tests.unit.record_batch_making import NOON, Made, batch, encoded

Change = Callable[[dict[str, Any]], None]

TURN: dict[str, Any] = {
    "event_id": "e",
    "ts": NOON,
    "session": "s",
    "player": "p",
    "locale": "en",
    "exposures": [{"experiment": "x", "version": 3, "variation": "a", "unit": "s"}],
    "turn_ms": 812,
    "model_ms": 640,
    "bundle_tokens": 1,
    "output_tokens": 2,
    "retries": 0,
    "fallbacks": 0,
    "tool_calls": 0,
    "acts": 0,
    "choices": 0,
    "time_ticks": -70,
}
CURRENT = schema_text(TURN_METRICS.schema)


def changed(change: Change) -> str:
    schema = json.loads(CURRENT)
    change(schema)
    return json.dumps(schema)


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (field for field in schema["fields"] if field["name"] == name)
    return found  # type: ignore[no-any-return]


def item_fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = field(schema, "exposures")["type"]["items"]["fields"]
    return fields


def read(writer: str, reader: str, event: dict[str, Any], copies: int = 2) -> Decoded:
    """A batch of events by an old writer, and one by the current, as the reader has them."""
    texts = {7: writer, 8: reader}

    def schema_of(schema_id: int) -> str:
        if schema_id not in texts:
            raise UnknownSchemaError(str(schema_id))
        return texts[schema_id]

    value = encoded(writer, 7, event)
    data = batch([Made(b"s", value)] * copies)
    columns = Columns(TURN_METRICS, schema_of, reader_schema=reader)
    return columns.decode(list(split(data, 0)), 0, 99)


def both_ways(writer: str, reader: str, event: dict[str, Any]) -> dict[str, Any]:
    """The event as a block gives it, which has to be how it comes alone."""
    plain = read(writer, reader, event)
    value = encoded(writer, 7, event)
    mixed = [Made(b"s", value), Made(None, value)]
    columns = Columns(TURN_METRICS, lambda _: writer, reader_schema=reader)
    alone = columns.decode(list(split(batch(mixed), 0)), 0, 99)
    assert (plain.single, alone.single) == (0, 2)
    assert plain.dead == alone.dead == ()
    assert plain.frame.drop("_timestamp").equals(alone.frame.drop("_timestamp"))
    row = plain.frame.drop("_offset", "_timestamp").row(0, named=True)
    return dict(row)


def test_field_that_old_data_lacks_has_its_default() -> None:
    def add(schema: dict[str, Any]) -> None:
        schema["fields"].insert(2, {"name": "model", "type": "string", "default": "none"})
        schema["fields"].append({"name": "cost", "type": "double", "default": 0.5})
        schema["fields"].append({"name": "parent", "type": ["null", "string"], "default": None})
        texts = {"type": "array", "items": "string"}
        schema["fields"].append({"name": "tags", "type": texts, "default": []})

    row = both_ways(CURRENT, changed(add), TURN)
    assert row == {**TURN, "model": "none", "cost": 0.5, "parent": None, "tags": []}
    assert list(row)[2] == "model"


def test_field_with_a_new_name_is_found_by_its_alias() -> None:
    def rename(schema: dict[str, Any]) -> None:
        field(schema, "turn_ms").update(name="turn_time_ms", aliases=["turn_ms"])

    row = both_ways(CURRENT, changed(rename), TURN)
    assert row["turn_time_ms"] == 812
    assert "turn_ms" not in row


def test_record_with_a_new_name_is_found_by_its_alias() -> None:
    def rename(schema: dict[str, Any]) -> None:
        schema.update(name="Turn", aliases=["anabranch.TurnMetric"])

    assert both_ways(CURRENT, changed(rename), TURN) == TURN


def test_field_that_only_the_writer_has_is_left_out() -> None:
    def add(schema: dict[str, Any]) -> None:
        schema["fields"].insert(0, {"name": "length", "type": "bytes"})
        schema["fields"].insert(3, {"name": "wire", "type": ["null", "long"]})

    assert both_ways(changed(add), CURRENT, {**TURN, "length": b"\xff", "wire": -5}) == TURN


def test_narrower_number_of_an_old_writer_is_widened() -> None:
    def widen(schema: dict[str, Any]) -> None:
        field(schema, "turn_ms")["type"] = "long"
        field(schema, "time_ticks")["type"] = "double"

    row = both_ways(CURRENT, changed(widen), TURN)
    assert (row["turn_ms"], row["time_ticks"]) == (812, -70.0)
    assert isinstance(row["time_ticks"], float)


def test_text_that_became_nullable_is_read_from_old_data() -> None:
    def loosen(schema: dict[str, Any]) -> None:
        field(schema, "player")["type"] = ["null", "string"]

    assert both_ways(CURRENT, changed(loosen), TURN) == TURN


def test_records_in_an_array_have_defaults_aliases_and_an_order_of_their_own() -> None:
    def change(schema: dict[str, Any]) -> None:
        fields = item_fields(schema)
        fields[0].update(name="experiment_key", aliases=["experiment"])
        fields[1]["type"] = "long"
        fields.insert(0, {"name": "layer", "type": "string", "default": "base"})
        fields.reverse()

    row = both_ways(CURRENT, changed(change), TURN)
    assert row["exposures"] == [
        {"unit": "s", "variation": "a", "version": 3, "experiment_key": "x", "layer": "base"}
    ]
    empty = both_ways(CURRENT, changed(change), {**TURN, "exposures": []})
    assert empty["exposures"] == []


def test_writer_with_types_that_are_no_columns_is_read_one_by_one() -> None:
    def add(schema: dict[str, Any]) -> None:
        schema["fields"].append({"name": "more", "type": {"type": "map", "values": "long"}})

    decoded = read(changed(add), CURRENT, {**TURN, "more": {"a": 1}})
    assert (decoded.single, decoded.dead) == (2, ())
    assert decoded.frame.drop("_offset", "_timestamp").row(0, named=True) == TURN


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            lambda schema: schema.update(name="Other"), "is of anabranch.Other", id="other record"
        ),
        pytest.param(lambda schema: schema["fields"].pop(), "cannot be read", id="lacks a field"),
        pytest.param(
            lambda schema: field(schema, "turn_ms").update(type="string"),
            "cannot be read",
            id="other type",
        ),
    ],
)
def test_records_are_dead_when_their_schema_cannot_be_read_as_ours(
    change: Change, says: str
) -> None:
    writer = changed(change)
    data = batch([Made(b"s", b"\0\0\0\0\7")])
    columns = Columns(TURN_METRICS, lambda _: writer)
    (dead,) = columns.decode(list(split(data, 0)), 0, 9).dead
    assert (dead.reason, dead.schema_id) == ("wrong_schema", 7)
    assert says in dead.detail


@pytest.mark.parametrize(
    "items",
    [
        "null",
        {"type": "fixed", "name": "F", "size": 0},
        {"type": "record", "name": "R", "fields": []},
        {"type": "record", "name": "R", "fields": [{"name": "n", "type": "null"}]},
    ],
)
def test_records_are_dead_when_their_arrays_could_be_endless(items: Any) -> None:
    """As a handful of bytes that say how many items there are, each of which takes none."""

    def add(schema: dict[str, Any]) -> None:
        nothing = {"type": "array", "items": items}
        schema["fields"].append({"name": "more", "type": ["null", nothing]})

    decoded = read(changed(add), CURRENT, {**TURN, "more": None}, copies=1)
    assert [dead.reason for dead in decoded.dead] == ["wrong_schema"]
    assert "an array of items that may take no bytes" in decoded.dead[0].detail


@pytest.mark.parametrize("text", ['"string"', "[]", "no json", '{"type": "record"}', "{}"])
def test_records_are_dead_when_their_schema_is_none(text: str) -> None:
    columns = Columns(TURN_METRICS, lambda _: text)
    (dead,) = columns.decode(list(split(batch([Made(b"s", b"\0\0\0\0\7")]), 0)), 0, 9).dead
    assert dead.reason == "wrong_schema"


def test_number_that_does_not_fit_the_bits_of_its_type_is_dead() -> None:
    def widen(schema: dict[str, Any]) -> None:
        field(schema, "turn_ms")["type"] = "long"
        item_fields(schema)[1]["type"] = "long"

    # As a writer does that looks at no range: the bytes are those of a long.
    for number in (1 << 31, (1 << 32) + (1 << 28), -(1 << 31) - 1):
        value = encoded(changed(widen), 7, {**TURN, "turn_ms": number})
        inner = encoded(
            changed(widen), 7, {**TURN, "exposures": [{**TURN["exposures"][0], "version": number}]}
        )
        columns = Columns(TURN_METRICS, lambda _: CURRENT)
        data = batch([Made(b"s", value), Made(b"s", inner)])
        dead = columns.decode(list(split(data, 0)), 0, 9).dead
        assert [record.detail for record in dead] == [
            "turn_ms does not fit the bits of its type",
            "exposures[0].version does not fit the bits of its type",
        ]


def test_batches_of_several_writers_come_in_the_order_of_their_offsets() -> None:
    def drop(schema: dict[str, Any]) -> None:
        schema["fields"].append({"name": "more", "type": "long"})

    old = changed(drop)
    texts = {7: old, 8: CURRENT}
    values = {
        7: encoded(old, 7, {**TURN, "more": 5}),
        8: encoded(CURRENT, 8, TURN),
    }
    data = b"".join(
        batch([Made(key, values[number])] * 3, at)
        for at, (number, key) in zip(
            range(0, 18, 3),
            [(7, b"s"), (8, b"s"), (7, None), (8, None), (7, b"s"), (8, b"s")],
            strict=True,
        )
    )
    decoded = Columns(TURN_METRICS, texts.__getitem__).decode(list(split(data, 0)), 1, 16)
    assert decoded.single == 0
    assert decoded.frame["_offset"].to_list() == list(range(1, 17))
    assert decoded.frame["turn_ms"].to_list() == [812] * 16
