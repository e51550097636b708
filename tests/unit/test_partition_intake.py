"""What has been fetched of a partition: gaps in it, and the silence after something was dropped."""

from __future__ import annotations

import pytest

from streams.intake import SILENCE_SECONDS, Intake
from streams.record_batches import RecordBatch


def batch(start: int, last: int) -> RecordBatch:
    return RecordBatch(start, start, last, last - start + 1, 0, 0, False, 0, b"x")


def test_intake_sees_a_gap_when_the_next_batch_comes() -> None:
    intake = Intake()
    intake.take(batch(0, 9), 0.0)
    intake.take(batch(20, 29), 1.0)
    assert intake.broken
    assert intake.position == 10


def test_intake_misses_the_last_batch_when_none_comes_for_long() -> None:
    intake = Intake()
    intake.take(batch(0, 9), 0.0)
    assert not intake.is_missing(20, 5.0)
    assert not intake.is_missing(20, 5.0 + SILENCE_SECONDS - 0.1)
    assert intake.is_missing(20, 5.0 + SILENCE_SECONDS)
    assert not intake.is_missing(20, 5.1 + SILENCE_SECONDS), "it was told once, and asks again"


@pytest.mark.parametrize("end", [pytest.param(10, id="at its end"), pytest.param(5, id="past it")])
def test_intake_misses_nothing_at_the_end_of_the_log(end: int) -> None:
    intake = Intake()
    intake.take(batch(0, 9), 0.0)
    assert not any(intake.is_missing(end, now) for now in (0.0, SILENCE_SECONDS, 100.0))


def test_intake_misses_nothing_while_batches_come() -> None:
    intake = Intake()
    for number in range(10):
        intake.take(batch(number * 10, number * 10 + 9), number * 6.0)
        assert not intake.is_missing(1_000, number * 6.0)


def test_intake_misses_nothing_before_it_knows_where_it_is() -> None:
    assert not any(Intake().is_missing(10, now) for now in (0.0, 100.0))


def test_partition_that_no_fetch_was_answered_for_is_asked_for_again_after_a_while() -> None:
    """Its end is not known, so what the log holds cannot be: a place to read from helps."""
    intake = Intake()
    intake.go_on_from(10)
    assert not intake.is_missing(None, 5.0)
    assert not intake.is_missing(None, 5.0 + SILENCE_SECONDS - 0.1)
    assert intake.is_missing(None, 5.0 + SILENCE_SECONDS)
    assert not intake.is_missing(10, 6.0 + SILENCE_SECONDS), "an answer, and nothing there"
