"""The fast way must say what the slow way says, whatever the bytes are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch.registry import RegistryUnavailableError
from schemas.record import schema_text
from schemas.topics import INVITES, OUTCOMES, TURN_METRICS, TopicSpec
from streams.columns import Columns, Decoded
from streams.reasons import BadEventReason
from streams.record_batches import CorruptBatchError, Record, RecordBatch, split
from streams.single_records import SingleRecords
from streams.writers import Reader, Writers
from tests.unit.record_batch_making import (
    EMITTED,
    NOON,
    Made,
    batch,
    encoded,
    raw_batch,
    raw_record,
    registry,
    schema_id,
    values_of,
    varint,
)

OUTCOME: dict[str, Any] = {
    "event_id": "e",
    "ts": NOON,
    "unit": "u",
    "values": [{"name": "v", "value": 1.5}],
    "dimensions": [],
}
CODECS = st.integers(0, 4)


def outcome(**fields: Any) -> bytes:
    return encoded(schema_text(OUTCOMES.schema), schema_id(OUTCOMES), {**OUTCOME, **fields})


def slow(spec: TopicSpec, batches: Sequence[RecordBatch], first: int, last: int) -> Decoded:
    """Every record by itself, with fastavro."""
    reader = Reader(schema_text(spec.schema))
    records = [r for b in batches for r in b.records() if first <= r.offset <= last]
    frame, dead, headers = SingleRecords(reader, Writers(reader, registry())).decode(records)
    return Decoded(frame, tuple(dead), headers)


def assert_fast_says_what_slow_says(
    spec: TopicSpec, data: bytes, first: int = 0, last: int = 1 << 60
) -> Decoded | None:
    batches = list(split(data, 0))
    try:
        expected = slow(spec, batches, first, last)
    except CorruptBatchError:
        with pytest.raises(CorruptBatchError):
            Columns(spec, registry()).decode(batches, first, last)
        return None
    found = Columns(spec, registry()).decode(batches, first, last)
    assert found.frame.schema == expected.frame.schema
    assert found.frame.equals(expected.frame)
    assert found.dead == expected.dead
    assert found.headers == expected.headers
    return found


def _text(events: list[dict[str, Any]]) -> str:
    """In which fields have an order, and NaN is itself."""
    return json.dumps(events, sort_keys=True)


@pytest.mark.parametrize("spec", EMITTED, ids=lambda spec: spec.subject)
@given(data=st.data(), codec=CODECS, keyed=st.booleans(), append=st.booleans())
@settings(max_examples=20, deadline=None)
def test_columns_hold_what_was_emitted(
    spec: TopicSpec, data: st.DataObject, codec: int, keyed: bool, append: bool
) -> None:
    events = data.draw(st.lists(values_of(spec), min_size=1, max_size=6))
    key = b"a key" if keyed else None
    made = [Made(key, value, NOON + at * 7) for at, (_, value) in enumerate(events)]
    decoded = Columns(spec, registry()).decode(
        list(split(batch(made, 50, codec, log_append=append), 50)), 50, 99
    )
    assert decoded.dead == ()
    rows = decoded.frame.to_dicts()
    assert [row.pop("_offset") for row in rows] == list(range(50, 50 + len(events)))
    times = [row.pop("_timestamp") for row in rows]
    assert times == [max(m.timestamp_ms for m in made) if append else m.timestamp_ms for m in made]
    assert _text(rows) == _text([event for event, _ in events])
    assert_fast_says_what_slow_says(spec, batch(made, 50, codec, log_append=append))


def test_columns_are_decoded_as_blocks_when_batches_are_plain() -> None:
    plain = [Made(b"u", outcome(unit=f"u{at}")) for at in range(300)]
    batches = list(split(batch(plain, 0, 4) + batch(plain, 300, 1) + batch(plain, 600), 0))
    decoded = Columns(OUTCOMES, registry()).decode(batches, 0, 899)
    assert (decoded.single, len(decoded.frame)) == (0, 900)


def test_columns_take_one_by_one_only_the_batch_that_is_spoilt() -> None:
    plain = [Made(b"u", outcome(unit=f"u{at}")) for at in range(200)]
    spoilt = [*plain[:100], Made(b"u", b"\0\0\0\0\4junk"), *plain[100:]]
    data = batch(plain, 0) + batch(spoilt, 200) + batch(plain, 401)
    decoded = assert_fast_says_what_slow_says(OUTCOMES, data)
    assert decoded is not None
    assert decoded.single == 201
    assert [dead.offset for dead in decoded.dead] == [300]


FAKE_RECORD = raw_record(1, b"u", outcome(unit="fake"))
TRICKS = st.sampled_from(
    [
        outcome() + b"\0" + FAKE_RECORD,
        outcome(unit="\0" + FAKE_RECORD.decode("latin-1")),
        outcome()[:-1],
        outcome() + b"\0",
        outcome() + b"x" * 70,
        b"\0\0\0\0\2" + outcome()[5:],
        b"\0\0\0\0\x63" + outcome()[5:],
        b"\1" + outcome()[1:],
        b"\0\0\0",
        b"",
        None,
        # The branch 2 of a union, a text that is no UTF-8, a number in more bytes than it needs.
        outcome().replace(b"\x02e", b"\x02\xff"),
        outcome()[:-1] + b"\x80\0",
        outcome(values=[{"name": "v", "value": float("nan")}] * 70),
    ]
)
VALUES = st.sampled_from([outcome(), outcome(unit="x" * 64)]) | TRICKS
RECORDS = st.lists(
    st.builds(
        Made,
        key=st.sampled_from([None, b"", b"u", FAKE_RECORD]),
        value=VALUES,
        timestamp_ms=st.integers(NOON - 100, NOON + 10_000),
        headers=st.sampled_from([(), (), (), (("h", b"1"), ("n", None))]),
    ),
    min_size=1,
    max_size=4,
)


@given(runs=st.lists(st.tuples(RECORDS, CODECS), min_size=1, max_size=4), data=st.data())
@settings(max_examples=120, deadline=None)
def test_columns_are_not_fooled_by_what_values_hold(
    runs: list[tuple[list[Made], int]], data: st.DataObject
) -> None:
    written, at = b"", 0
    for made, codec in runs:
        written += batch(made, at, codec)
        at += len(made)
    first = data.draw(st.integers(0, at), label="first")
    last = data.draw(st.integers(first, at), label="last")
    assert_fast_says_what_slow_says(OUTCOMES, written, first, last)


@given(
    made=st.lists(values_of(INVITES), min_size=1, max_size=4),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 4),
)
@settings(max_examples=120, deadline=None)
def test_columns_are_not_fooled_by_changed_bytes(
    made: list[tuple[dict[str, Any], bytes]], changes: list[tuple[int, int]], cut: int
) -> None:
    """Even of what a broker would refuse."""
    records = [raw_record(delta, b"u", value) for delta, (_, value) in enumerate(made)]
    body = bytearray(b"".join(records))
    for place, byte in changes:
        body[place % len(body)] = byte
    count = len(records)
    assert_fast_says_what_slow_says(INVITES, raw_batch(bytes(body[: len(body) - cut]), count))


NEAR = st.sampled_from([0, 0, 0, -2, -1, 1, 2])


@given(
    claims=st.lists(st.tuples(NEAR, NEAR, NEAR, VALUES), min_size=1, max_size=3),
    more=st.sampled_from([b"", b"", b"\0", b"\2\0"]),
)
@settings(max_examples=120, deadline=None)
def test_columns_are_not_fooled_by_lengths_that_are_claimed(
    claims: list[tuple[int, int, int, bytes | None]], more: bytes
) -> None:
    body = b""
    for index, (longer, value_longer, offset_by, value) in enumerate(claims):
        body += raw_record(
            index + offset_by, b"u", value or b"", longer=longer, value_longer=value_longer
        )
    assert_fast_says_what_slow_says(OUTCOMES, raw_batch(body + more, len(claims)))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(raw_record(0, b"u", outcome(), value_longer=-1), id="a shorter value"),
        pytest.param(
            raw_record(0, b"u", outcome()[:-1] + b"\x80\0", longer=-1, value_longer=-1),
            id="a number in more bytes than it needs",
        ),
    ],
)
def test_columns_are_not_fooled_by_one_length_that_is_wrong(record: bytes) -> None:
    assert assert_fast_says_what_slow_says(OUTCOMES, raw_batch(record, 1)) is None


@pytest.mark.parametrize("branch", [0, 1, 2, 3, 4, 5])
def test_columns_are_not_fooled_by_a_branch_that_a_union_does_not_have(branch: int) -> None:
    invite = dict.fromkeys(("event_id", "kind", "invite_id", "loop", "inviter", "invitee"), "x")
    more = {"ts": NOON, "smart_link_code": "", "locale": "", "exposures": []}
    value = encoded(schema_text(INVITES.schema), schema_id(INVITES), {**invite, **more})
    assert value.endswith(b"\2\2x\0\0\0")
    value = value[:-6] + bytes([branch]) + value[-5:]
    made = [Made(b"x" * 5, value), Made(b"y", value)]
    assert_fast_says_what_slow_says(INVITES, batch(made) + batch(made, 2))


def test_columns_keep_the_offsets_of_a_batch_that_compaction_thinned_out() -> None:
    body = raw_record(1, b"u", outcome()) + raw_record(2, b"u", outcome())
    data = raw_batch(body, 2, 10, last_delta=4) + raw_batch(body, 2, 15, last_delta=2)
    decoded = assert_fast_says_what_slow_says(OUTCOMES, data)
    assert decoded is not None
    assert decoded.frame["_offset"].to_list() == [11, 12, 16, 17]


def test_columns_are_not_fooled_by_batches_that_hold_each_others_records() -> None:
    """Two and one, where the heads say one and two."""
    data = b"".join(
        raw_batch(body, count, first)
        for body, count, first in (
            (raw_record(0, b"u", outcome()) * 2, 1, 0),
            (raw_record(1, b"u", outcome()), 2, 1),
        )
    )
    assert assert_fast_says_what_slow_says(OUTCOMES, data) is None


def test_columns_are_not_fooled_by_a_value_that_ends_early_and_holds_the_rest() -> None:
    """Framing, number of rows and all sums as they should be; only the bytes in between are not."""
    second = raw_record(1, b"u", outcome(unit="true"))
    inside = raw_record(1, b"u", outcome(unit="fake"))
    assert len(second) == len(inside)
    # After its own event the first value goes on with a record like the second; the number of rows
    # is reached before the true one is.
    first = raw_record(0, b"u", outcome() + b"\0" + inside)
    decoded = assert_fast_says_what_slow_says(OUTCOMES, raw_batch(first + second, 2))
    assert decoded is not None
    assert decoded.frame["unit"].to_list() == ["true"]


def test_columns_are_not_fooled_by_a_fake_that_swallows_the_true_record() -> None:
    """As above, and the fake's last text covers what follows, to the last byte of the batch."""
    event = outcome(dimensions=[{"name": "n", "value": "m" * 40}])
    second = raw_record(1, b"u", event)
    text = len(second) - 2  # all of it but for the array's end and the headers'
    fake = outcome(dimensions=[{"name": "n", "value": "v" * (text + 1)}])
    fake = fake[: fake.rindex(b"v" * (text + 1))]
    value_length = len(event)
    head = b"\0" + varint(0) + varint(1) + varint(1) + b"u" + varint(value_length)
    claimed = varint(len(head) + value_length + 1) + head + fake
    first = raw_record(0, b"u", outcome() + b"\0" + claimed)
    assert_fast_says_what_slow_says(OUTCOMES, raw_batch(first + second, 2))


def test_columns_are_not_fooled_by_a_number_that_runs_over_its_value() -> None:
    """A last byte that promises another one takes the headers' count with it."""
    value = outcome()[:-1] + b"\x80"
    body = raw_record(0, b"u", value) + raw_record(1, b"u", outcome())
    decoded = assert_fast_says_what_slow_says(OUTCOMES, raw_batch(body, 2))
    assert decoded is not None
    assert [dead.offset for dead in decoded.dead] == [0]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        pytest.param(varint(1) + varint(-1), varint(1) + varint(-2), id="a key's length"),
        pytest.param(outcome() + b"\0", outcome() + b"\1", id="a count of headers"),
    ],
)
def test_columns_are_not_fooled_by_a_length_that_cannot_be(good: bytes, bad: bytes) -> None:
    """Where a block would read any number."""
    record = raw_record(1, None, outcome())
    assert record.count(good) == 1
    body = raw_record(0, None, outcome()) + record.replace(good, bad)
    assert assert_fast_says_what_slow_says(OUTCOMES, raw_batch(body, 2)) is None


def test_columns_are_not_fooled_by_wrong_lengths_that_add_up() -> None:
    longer, shorter = (raw_record(at, b"u", outcome(), longer=1 - 2 * at) for at in (0, 1))
    assert assert_fast_says_what_slow_says(OUTCOMES, raw_batch(longer + shorter, 2)) is None


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "empty", "there is no value"),
        (b"", "truncated", "0 bytes are too few"),
        (b"\7abcdefgh", "bad_magic", "the first byte is 7, and should be 0"),
        (b"\0\0\0\0\x63abc", "unknown_schema", "schema 99 is not known"),
        (b"\0\0\0\0\2abc", "wrong_schema", "schema 2 is of anabranch.TurnMetric, not of"),
        (outcome()[:-3], "truncated", "the bytes end before a record of schema 4"),
        (outcome() + b"ab", "undecodable", "2 bytes are left over"),
        (outcome().replace(b"\x02e", b"\x02\xff"), "undecodable", "utf-8"),
    ],
)
def test_dead_record_says_why_and_keeps_its_bytes(
    value: bytes | None, reason: str, detail: str
) -> None:
    headers = (("trace", b"1"),)
    made = [Made(b"u", outcome()), Made(b"k", value, NOON + 1, headers), Made(b"u", outcome())]
    decoded = assert_fast_says_what_slow_says(OUTCOMES, batch(made, 7))
    assert decoded is not None
    (dead,) = decoded.dead
    assert dead.reason == BadEventReason(reason)
    assert detail in dead.detail
    assert Record(*_coordinates(dead)) == Record(8, NOON + 1, b"k", value, headers)
    assert decoded.frame["_offset"].to_list() == [7, 9]


def _coordinates(dead: Any) -> tuple[Any, ...]:
    return (dead.offset, dead.timestamp_ms, dead.key, dead.value, dead.headers)


def test_columns_decide_nothing_when_the_registry_does_not_answer() -> None:
    def away(_: int) -> str:
        raise RegistryUnavailableError("no answer")

    batches = list(split(batch([Made(b"u", outcome())]), 0))
    with pytest.raises(RegistryUnavailableError):
        Columns(OUTCOMES, away).decode(batches, 0, 0)


def test_columns_stop_at_a_batch_that_was_damaged() -> None:
    with pytest.raises(CorruptBatchError):
        Columns(OUTCOMES, registry()).decode(list(split(raw_batch(b"\x10\0", 1), 0)), 0, 9)


def test_columns_are_empty_when_no_batch_has_records() -> None:
    decoded = Columns(TURN_METRICS, registry()).decode(
        list(split(raw_batch(b"", 0, 0, 4), 0)), 0, 9
    )
    assert decoded.frame.is_empty()
    assert decoded.frame["exposures"].dtype == pl.List
    assert decoded.frame.columns[-2:] == ["_offset", "_timestamp"]


def test_records_are_the_original_ones_for_rows_that_turn_out_bad_later() -> None:
    made = [Made(b"k%d" % at, outcome(unit=f"u{at}")) for at in range(6)]
    data = batch(made[:3], 0, 4) + batch(made[3:], 3, 2)
    decoded = Columns(OUTCOMES, registry()).decode(list(split(data, 0)), 0, 5)
    refused = decoded.without({4: (BadEventReason.REFUSED_BY_STORE, "too much")})
    (dead,) = refused.dead
    assert (dead.offset, dead.key, dead.value, dead.detail) == (4, b"k4", made[4].value, "too much")
    assert dead.schema_id == schema_id(OUTCOMES)
    assert refused.frame["_offset"].to_list() == [0, 1, 2, 3, 5]
