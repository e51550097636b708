"""Which records bring a dead letter back, and which of them are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.decoded import OFFSET, Decoded, dead
from streams.kafka_log import TopicPartition
from streams.reasons import BadEventReason
from streams.record_batches import Headers, Record
from streams.replay_headers import Origin, origin, replay_headers
from streams.replays import Letter, replayed, settled
from streams.sending import writable

PLACE = TopicPartition("turn-metrics.v1", 3)
EPOCH, OTHER_EPOCH = "0a1b2c3d", "11112222"
LETTER = Origin(*PLACE, EPOCH, 7)


def decoded(headers: Mapping[int, Headers], last: int) -> Decoded:
    return Decoded(pl.DataFrame({OFFSET: range(last + 1)}), (), headers)


def offsets(frame: Decoded) -> list[int]:
    return frame.frame[OFFSET].to_list()


def test_replay_headers_say_of_which_letter_and_keep_the_others() -> None:
    own: Headers = (("trace", b"\xff"), ("trace", None), ("dlq.reason", b"x"))

    made = replay_headers(own, LETTER)

    assert made[:3] == own
    assert origin(made) == LETTER
    assert origin(own) is None


def test_replay_headers_name_the_first_letter_when_a_replay_has_died() -> None:
    once = replay_headers((("trace", b"1"),), LETTER)
    twice = replay_headers(once, LETTER._replace(offset=20))
    assert twice == once


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replay.topic", b"\x1b[2J"),
        ("replay.topic", b""),
        ("replay.topic", None),
        ("replay.partition", b"-1"),
        ("replay.partition", "٣".encode()),
        ("replay.offset", b"1" * 19),
        ("replay.offset", b"7x"),
        ("replay.epoch", b"A"),
    ],
)
def test_origin_is_none_when_a_header_makes_no_sense(name: str, value: bytes | None) -> None:
    others = tuple(pair for pair in replay_headers((), LETTER) if pair[0] != name)
    assert origin((*others, (name, value))) is None


@given(st.lists(st.tuples(st.text(max_size=20), st.none() | st.binary(max_size=20))))
def test_origin_takes_any_headers(headers: list[tuple[str, bytes | None]]) -> None:
    assert origin(tuple(headers)) is None


def test_replayed_ignores_a_record_that_names_another_place() -> None:
    elsewhere = (
        LETTER._replace(partition=4),
        LETTER._replace(topic="invites.v1"),
        LETTER._replace(offset=10),  # itself
        LETTER._replace(offset=11),  # not dead yet
    )
    for said in elsewhere:
        assert replayed({10: replay_headers((), said)}, PLACE, EPOCH) == {}


def test_replayed_takes_letters_of_an_earlier_life_and_those_without_one() -> None:
    earlier = LETTER._replace(epoch=OTHER_EPOCH, offset=99)
    unnamed = LETTER._replace(epoch=None)
    headers = {10: replay_headers((), earlier), 11: replay_headers((), unnamed)}

    found = replayed(headers, PLACE, EPOCH)

    assert found == {10: Letter(OTHER_EPOCH, 99), 11: Letter(EPOCH, 7)}


def test_settled_keeps_a_record_when_the_mark_names_that_very_record() -> None:
    letters = {1: Letter(EPOCH, 0), 2: Letter(EPOCH, 0)}
    first = settled(decoded({}, 2), letters, {}, EPOCH)
    again = settled(decoded({}, 2), letters, {Letter(EPOCH, 0): {Letter(EPOCH, 1)}}, EPOCH)
    for once in (first, again):
        assert offsets(once.decoded) == [0, 1]
        assert (once.replays, once.skipped) == ({1: Letter(EPOCH, 0)}, 1)


def test_settled_leaves_a_record_out_when_a_mark_is_of_an_earlier_life_of_the_partition() -> None:
    marks = {Letter(EPOCH, 0): {Letter(OTHER_EPOCH, 1)}}
    found = settled(decoded({}, 1), {1: Letter(EPOCH, 0)}, marks, EPOCH)
    assert (offsets(found.decoded), found.skipped) == ([0], 1)


@given(
    st.lists(st.none() | st.integers(0, 5), max_size=40),
    st.lists(st.integers(0, 40), max_size=6),
    st.data(),
)
def test_settled_stores_each_letter_once_however_the_log_is_cut_and_formed_again(
    log: Sequence[int | None], cuts: Sequence[int], data: st.DataObject
) -> None:
    """An oracle knows what should be stored: all plain records, and the first of each letter."""
    marks: dict[Letter, set[Letter]] = {}
    stored: list[int] = []
    skipped = 0
    edges = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    for first, end in pairwise(edges):
        here = enumerate(log[first:end], first)
        letters = {at: Letter(EPOCH, letter) for at, letter in here if letter is not None}
        frame = Decoded(pl.DataFrame({OFFSET: range(first, end)}), ())
        tries = data.draw(st.integers(1, 3))
        for number in range(tries):
            found = settled(frame, letters, marks, EPOCH)
            if number < tries - 1 and data.draw(st.booleans()):
                continue  # died before its marks were there
            for offset, letter in found.replays.items():
                marks.setdefault(letter, set()).add(Letter(EPOCH, offset))
        stored += offsets(found.decoded)
        skipped += found.skipped

    firsts = {letter: at for at, letter in reversed(list(enumerate(log))) if letter is not None}
    wanted = [at for at, letter in enumerate(log) if letter is None or firsts[letter] == at]
    assert stored == wanted
    assert len(stored) + skipped == len(log)
    assert all(len(places) == 1 for places in marks.values())


def test_dead_letter_says_that_it_is_a_replay() -> None:
    record = Record(9, 0, None, b"x", replay_headers((), LETTER))
    found = dead(record, BadEventReason.TRUNCATED, "too short")
    assert found.detail == "too short (a replay of turn-metrics.v1/3/7)"


def test_headers_are_writable_when_a_name_is_no_utf_8() -> None:
    strange = b"a\xffb".decode("utf-8", "surrogateescape")
    assert writable(((strange, b"\xff"), ("ä", None))) == (("a\\xffb", b"\xff"), ("ä", None))
