"""What is replayed and what is carried over, decided from the table `batches` and the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka_log import TopicPartition
from streams.rebuild.carry_over import letters_before, marks_before, raw_before
from streams.rebuild.closing import missing_in
from streams.rebuild.spans import (
    RECORDS_AT_ONCE,
    Life,
    LiveRange,
    Span,
    bulk,
    following,
    newest,
    one_by_one,
    settled,
    span_of,
    start_of,
)

PLACE = TopicPartition("turn-metrics.v1", 3)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ranges(*bounds: tuple[int, int], records: int | None = 10) -> list[LiveRange]:
    return [
        LiveRange("e1", first, last, records, 0, NOON + timedelta(seconds=number), "w")
        for number, (first, last) in enumerate(bounds)
    ]


THREE = ranges((0, 9), (10, 19), (20, 29))


@pytest.mark.parametrize(
    ("wanted", "log_start", "start"),
    [
        pytest.param(None, 0, 0, id="all that there is"),
        pytest.param(None, 10, 10, id="from where the log begins"),
        pytest.param(None, 12, 20, id="never inside a range whose begin is deleted"),
        pytest.param(None, 25, 30, id="nothing when the last range is not whole any more"),
        pytest.param(15, 0, 10, id="a moment inside a range takes it whole"),
        pytest.param(20, 0, 20, id="a moment between two"),
        pytest.param(5, 12, 20, id="a moment before the log begins"),
        pytest.param(29, 0, 20, id="the last record"),
        pytest.param(30, 0, 30, id="nothing is as young"),
    ],
)
def test_start_lies_between_ranges_that_kafka_still_has(
    wanted: int | None, log_start: int, start: int
) -> None:
    assert start_of(THREE, wanted, log_start) == start


def test_start_is_where_the_log_begins_when_nothing_was_applied() -> None:
    assert start_of([], None, 7) == 7


def test_following_leaves_sound_ranges_as_they_are() -> None:
    assert following(reversed(THREE), 0) == (tuple(THREE), ())


def test_following_fills_a_gap_and_says_so() -> None:
    kept, wrong = following(ranges((0, 9), (20, 29)), 0)
    assert [(found.first, found.last, found.records) for found in kept] == [
        (0, 9, 10),
        (10, 19, None),
        (20, 29, 10),
    ]
    assert wrong == ("10 to 19 was never applied",)


def test_following_takes_what_was_applied_twice_once() -> None:
    kept, wrong = following(ranges((0, 9), (5, 14), (10, 12), (15, 20)), 0)
    assert [(found.first, found.last) for found in kept] == [(0, 9), (10, 14), (15, 20)]
    assert wrong == ("5 to 9 was applied twice", "10 to 12 was applied twice")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12), st.integers(0, 30))
def test_following_never_leaves_a_gap_or_an_overlap(
    shapes: list[tuple[int, int]], begin: int
) -> None:
    kept, _ = following(ranges(*((first, first + more) for first, more in shapes)), begin)
    at = begin
    for found in kept:
        assert found.first == at
        assert found.last >= found.first
        at = found.last + 1
    assert at == max([begin, *(first + more + 1 for first, more in shapes)])


def test_settled_leaves_out_what_is_as_young_as_the_guard() -> None:
    assert settled(ranges(*((n, n) for n in range(10))), timedelta(seconds=3.5)) == 6


def test_settled_leaves_out_the_last_range_however_old_it_is() -> None:
    assert settled(ranges((0, 9)), timedelta()) == 0
    assert settled(THREE, timedelta()) == 2
    assert settled([], timedelta()) == 0


def test_bulk_puts_ranges_together_and_names_what_it_took() -> None:
    third = RECORDS_AT_ONCE // 3
    bounds = [(n * third, (n + 1) * third - 1) for n in range(7)]
    stretches = bulk(PLACE, ranges(*bounds, records=third), "abc")
    assert [len(stretch.ranges) for stretch in stretches] == [3, 3, 1]
    first, last = stretches[1].range_.first, stretches[1].range_.last
    assert (first, last) == (3 * third, 6 * third - 1)
    assert stretches[1].token == f"rebuild:abc:turn-metrics.v1:3:{first}-{last}"
    assert stretches[1].records == 3 * third


def test_bulk_takes_a_range_that_is_too_large_alone() -> None:
    stretches = bulk(PLACE, ranges((0, 9), (10, 10), records=RECORDS_AT_ONCE * 2), "abc")
    assert [len(stretch.ranges) for stretch in stretches] == [1, 1]


def test_one_by_one_uses_the_tokens_of_the_workers() -> None:
    assert [stretch.token for stretch in one_by_one(PLACE, THREE[:2])] == [
        "turn-metrics.v1:3:e1:0-9",
        "turn-metrics.v1:3:e1:10-19",
    ]


def test_a_stretch_does_not_know_its_records_when_one_range_does_not() -> None:
    (stretch,) = bulk(PLACE, [*THREE, *ranges((30, 39), records=None)], "abc")
    assert stretch.records is None
    assert stretch.size == 40


def life(epoch: str, first: int, last: int, begun: int, ended: int) -> Life:
    return Life(
        epoch, first, last, NOON + timedelta(seconds=begun), NOON + timedelta(seconds=ended)
    )


def test_the_ledger_names_the_epoch_before_the_batches_do() -> None:
    lives = [life("e1", 0, 99, 0, 50), life("e2", 0, 9, 60, 70)]
    assert newest(lives, None) == "e2"
    assert newest(lives, "e3") == "e3"
    assert newest([], None) is None


def test_span_tells_epochs_apart_by_time_only_where_their_offsets_meet() -> None:
    lives = [life("e1", 0, 99, 0, 50), life("e2", 0, 200, 60, 90)]
    assert span_of(PLACE, lives, "e2", 0) == Span(
        PLACE, "e2", 0, ("e1",), NOON + timedelta(seconds=55)
    )
    assert span_of(PLACE, lives, "e2", 100).born is None


def test_conditions_name_every_partition_and_epoch() -> None:
    spans = [Span(PLACE, "e2", 40, ("e1",), NOON), Span(TopicPartition(PLACE.topic, 4), "e9", 7)]
    at = int(NOON.timestamp() * 1000)
    assert raw_before(spans) == (
        "_offset < transform(_partition, [3, 4], [40, 7], 0) "
        f"OR (_partition = 3 AND inserted_at < fromUnixTimestamp64Milli({at}))"
    )
    assert letters_before(spans) == (
        "(partition = 3 AND (epoch != 'e2' OR offset < 40)) "
        "OR (partition = 4 AND (epoch != 'e9' OR offset < 7))"
    )
    assert marks_before(spans).startswith("mark != 'applied' OR (partition = 3 AND (at_epoch")


@pytest.mark.parametrize(
    ("begin", "next_", "missing"),
    [
        pytest.param(0, 30, None, id="all there"),
        pytest.param(0, 40, "30 to 39", id="the last one is on its way"),
        pytest.param(30, 30, None, id="nothing to be there"),
        pytest.param(None, 30, None, id="another epoch"),
        pytest.param(0, None, None, id="no entry"),
    ],
)
def test_missing_is_what_was_confirmed_and_is_in_no_table(
    begin: int | None, next_: int | None, missing: str | None
) -> None:
    assert missing_in(THREE if begin != 30 else (), begin, next_) == missing


def test_missing_sees_a_gap_between_two_ranges() -> None:
    assert missing_in([THREE[0], THREE[2]], 0, 30) == "10 to 19"
