"""When dead letters stop a worker."""

from __future__ import annotations

import pytest

from streams.dead_limit import DeadLimit, TooManyDeadError


def limit() -> DeadLimit:
    return DeadLimit(share=0.1, at_least=10)


def test_limit_lets_a_share_pass_that_is_allowed() -> None:
    watched = limit()
    for second in range(100):
        watched.count("turn-metrics.v1", 100, 10, "why", float(second))


def test_limit_lets_few_dead_letters_pass_whatever_their_share() -> None:
    limit().count("turn-metrics.v1", 9, 9, "why", 0.0)


def test_limit_stops_at_one_more_than_the_share_and_says_what_to_do() -> None:
    watched = limit()
    watched.count("invites.v1", 900, 89, "before", 0.0)
    with pytest.raises(TooManyDeadError) as stopped:
        watched.count("turn-metrics.v1", 100, 12, "the last example", 59.0)
    said = str(stopped.value)
    for part in ("101", "1,000", "0.1", "ANABRANCH_WORKER__DEAD_SHARE", "the last example"):
        assert part in said


def test_limit_forgets_what_is_older_than_a_minute() -> None:
    watched = limit()
    watched.count("turn-metrics.v1", 100, 9, "why", 0.0)
    watched.count("turn-metrics.v1", 10, 9, "why", 61.0)
    with pytest.raises(TooManyDeadError):
        watched.count("turn-metrics.v1", 10, 9, "why", 62.0)


def test_limit_of_one_never_stops() -> None:
    watched = DeadLimit(share=1.0, at_least=1)
    for second in range(100):
        watched.count("turn-metrics.v1", 1_000, 1_000, "why", float(second))
