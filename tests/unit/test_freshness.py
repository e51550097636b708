from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from analysis.freshness import Freshness, Progress, freshness, reached
from service.ingestion import Seen
from service.stats import freshness_of
from sinks.figures import Figures, PartitionFigures
from streams.kafka_log import Bounds, TopicPartition

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


def test_reached_is_the_latest_time_of_which_all_that_came_before_is_applied() -> None:
    firsts = {ago(900): 3, ago(60): 7, ago(10): 8}
    assert [reached(offset, firsts) for offset in (2, 3, 7, 9)] == [
        *(None, ago(900), ago(60), ago(10))
    ]


@pytest.mark.parametrize(
    ("last_event", "there", "lag"),
    [
        pytest.param(ago(3_600), ago(2), 2.0, id="an event after an hour without any"),
        pytest.param(ago(1), ago(2), 1.0, id="events come all the time"),
        pytest.param(ago(3_600), None, 3_600.0, id="what waits is as old as that"),
        pytest.param(None, ago(10), 10.0, id="the first event"),
    ],
)
def test_freshness_counts_from_when_all_was_applied_when_the_last_event_is_older(
    last_event: datetime | None, there: datetime | None, lag: float
) -> None:
    place = TopicPartition("exposures.v1", 0)
    known = PartitionFigures(*place, "life", 9, 0, 0, 0, 3, 8, last_event, NOW)
    seen = Seen(
        NOW,
        Figures((known,), {}, {}, {}),
        {place: Bounds(0, 10)},
        None,
        {} if there is None else {place: there},
    )
    assert freshness_of(seen).lag_seconds == lag
