from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from analysis.freshness import Freshness, Progress, freshness

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        pytest.param([], Freshness(None, 0, 0, 0.0), id="no partition"),
        pytest.param([Progress(None, 0)], Freshness(None, 0, 1, 0.0), id="nothing yet"),
        pytest.param([Progress(None, 5)], Freshness(None, 5, 0, None), id="nothing applied yet"),
        pytest.param(
            [Progress(ago(9), 4), Progress(ago(2), 1)],
            Freshness(ago(9), 5, 0, 9.0),
            id="the lowest of those that wait",
        ),
        pytest.param(
            [Progress(ago(900), 0), Progress(ago(2), 1)],
            Freshness(ago(2), 1, 1, 2.0),
            id="an idle partition holds nothing back",
        ),
        pytest.param(
            [Progress(ago(900), 0), Progress(ago(30), 0)],
            Freshness(ago(30), 0, 2, 0.0),
            id="all is applied",
        ),
        pytest.param(
            [Progress(ago(3), 1), Progress(None, 7)],
            Freshness(None, 8, 0, None),
            id="one that has applied nothing says nothing",
        ),
        pytest.param(
            [Progress(ago(3), None), Progress(ago(8), None)],
            Freshness(ago(8), None, 0, 8.0),
            id="kafka does not say",
        ),
        pytest.param(
            [Progress(ago(-60), 2)], Freshness(ago(-60), 2, 0, 0.0), id="a mark ahead of the clock"
        ),
    ],
)
def test_freshness_is_that_of_the_partitions_that_still_have_something_to_apply(
    partitions: list[Progress], expected: Freshness
) -> None:
    assert freshness(partitions, NOW) == expected
