from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.record_batches import CorruptBatchError, Record, RecordBatch, split
from tests.unit.record_batch_making import (
    NOON,
    Made,
    batch,
    changed,
    raw_batch,
    raw_record,
    varint,
)

HEADERS = st.lists(
    st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2
).map(tuple)
MADE = st.builds(
    Made,
    key=st.none() | st.binary(max_size=70),
    value=st.none() | st.binary(max_size=70),
    timestamp_ms=st.integers(NOON - 10**9, NOON + 10**9),
    headers=HEADERS,
)
THREE = [Made(b"k", b"one"), Made(None, b"two", NOON + 5), Made(b"k", None)]


def only(data: bytes, position: int = 0) -> RecordBatch:
    (found,) = split(data, position)
    return found


@given(made=st.lists(MADE, min_size=1, max_size=5), codec=st.integers(0, 4), append=st.booleans())
@settings(max_examples=100, deadline=None)
def test_records_are_those_that_aiokafka_reads(made: list[Made], codec: int, append: bool) -> None:
    data = batch(made, 1000, codec, log_append=append)
    theirs = [
        Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
        for r in DefaultRecordBatch(data)
    ]
    found = only(data, 1000)
    assert list(found.records()) == theirs
    assert (found.first, found.last, found.count) == (1000, 999 + len(made), len(made))
    assert (found.codec, found.log_append) == (codec, append)


def test_split_starts_each_batch_where_the_one_before_ended() -> None:
    data = batch(THREE, 10) + batch(THREE, 13) + batch(THREE, 20)
    assert [(b.start, b.first, b.last) for b in split(data, 11)] == [
        (11, 10, 12),
        (13, 13, 15),
        (16, 20, 22),
    ]


def test_split_leaves_out_batches_before_the_position() -> None:
    data = batch(THREE, 10) + batch(THREE, 13)
    assert [(b.start, b.first) for b in split(data, 13)] == [(13, 13)]


@pytest.mark.parametrize("kept", [0, 11, 60, 61, 70])
def test_split_leaves_a_batch_that_the_response_cut_off(kept: int) -> None:
    whole = batch(THREE, 10)
    assert [b.last for b in split(whole + batch(THREE, 13)[:kept], 10)] == [12]
    assert list(split(whole[:kept], 10)) == []


def test_split_goes_past_transaction_markers_without_records() -> None:
    marker = changed(batch([Made(b"\0\0\0\1", b"")], 13), first=13, attributes=0x30, producer=7)
    found = list(split(batch(THREE, 10) + marker, 10))
    assert [(b.start, b.last, b.count) for b in found] == [(10, 12, 3), (13, 13, 0)]
    assert list(found[1].records()) == []


def test_split_leaves_out_what_aborted_transactions_wrote() -> None:
    def of(producer: int, first: int, attributes: int = 0x10) -> bytes:
        return changed(
            batch([Made(b"k", b"v")], first), first=first, attributes=attributes, producer=producer
        )

    abort = changed(batch([Made(b"\0\0\0\0", b"")], 3), first=3, attributes=0x30, producer=7)
    data = of(7, 0) + of(8, 1) + of(7, 2) + abort + of(7, 4) + of(7, 5, attributes=0)
    aborted = [(7, 0)]
    assert [b.count for b in split(data, 0, aborted=aborted)] == [0, 1, 0, 0, 1, 1]
    assert [b.count for b in split(data, 0)] == [1, 1, 1, 0, 1, 1]


def test_split_keeps_the_place_of_a_batch_that_compaction_emptied() -> None:
    (found,) = split(raw_batch(b"", 0, 10, last_delta=4), 10)
    assert (found.last, found.count, list(found.records())) == (14, 0, [])


def test_split_refuses_a_damaged_batch_when_it_checks() -> None:
    data = bytearray(batch(THREE))
    data[-3] ^= 1
    with pytest.raises(CorruptBatchError, match="checksum"):
        list(split(bytes(data), 0, check_crc=True))
    assert len(list(split(batch(THREE, codec=4), 0, check_crc=True))) == 1


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        pytest.param(16, b"\1", "message format 1", id="an old message format"),
        pytest.param(8, b"\xff\xff\xff\xff", "-1 bytes", id="a negative length"),
        pytest.param(57, b"\x7f\xff\xff\xff", "2147483647 records", id="too many records"),
    ],
)
def test_split_refuses_a_head_that_cannot_be(at: int, value: bytes, says: str) -> None:
    data = bytearray(batch(THREE))
    data[at : at + len(value)] = value
    with pytest.raises(CorruptBatchError, match=says):
        list(split(bytes(data), 0))


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5])
def test_records_are_refused_when_they_do_not_decompress(codec: int) -> None:
    data = changed(raw_batch(b"no such thing" * 3, 1), first=0, attributes=codec)
    with pytest.raises(CorruptBatchError):
        list(only(data).records())


@given(body=st.binary(max_size=40), count=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_records_of_garbage_are_refused_and_nothing_else(body: bytes, count: int) -> None:
    try:
        found = list(only(raw_batch(body, count)).records())
    except CorruptBatchError:
        return
    assert len(found) == count


def test_records_have_their_place_when_a_producer_numbers_them_wrongly() -> None:
    body = raw_record(5, None, b"a") + raw_record(-7, None, b"b")
    assert [r.offset for r in only(raw_batch(body, 2, 100), 100).records()] == [100, 101]


def test_records_keep_their_offsets_when_compaction_removed_some() -> None:
    body = raw_record(1, None, b"a") + raw_record(4, None, b"b")
    found = only(raw_batch(body, 2, 100, last_delta=6), 100)
    assert [r.offset for r in found.records()] == [101, 104]


def test_records_have_a_time_of_64_bits_when_a_producer_adds_too_much() -> None:
    inside = b"\0" + varint((1 << 63) - 1) + varint(0) + varint(-1) + varint(1) + b"v" + b"\0"
    (record,) = only(raw_batch(varint(len(inside)) + inside, 1)).records()
    assert record.timestamp_ms == NOON - (1 << 63) - 1
