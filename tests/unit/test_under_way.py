"""What is being applied: how much of it, how it ends, and whose errors count."""

from __future__ import annotations

import asyncio

import pytest

from sinks.writer import SinkAbandoned
from streams.kafka_log import FencedError, TopicPartition
from streams.under_way import UnderWay

PLACES = [TopicPartition("turns", number) for number in range(3)]


class Steps:
    """Ranges that end when they are told to."""

    def __init__(self, most_rows: int = 100) -> None:
        self.woken = 0
        self.under_way = UnderWay(2, most_rows, self._wake)
        self._ends: dict[TopicPartition, asyncio.Future[None]] = {}

    def _wake(self) -> None:
        self.woken += 1

    def begin(self, place: TopicPartition, rows: int = 10) -> None:
        end = self._ends[place] = asyncio.get_running_loop().create_future()

        async def applying() -> None:
            await end

        self.under_way.begin(place, rows, applying())

    async def end(self, place: TopicPartition, error: Exception | None = None) -> None:
        if error is None:
            self._ends[place].set_result(None)
        else:
            self._ends[place].set_exception(error)
        for _ in range(3):  # the range, its task, and whoever waits for that
            await asyncio.sleep(0)


async def test_rows_under_way_take_room_until_they_are_applied() -> None:
    steps = Steps(most_rows=100)
    steps.begin(PLACES[0], 60)
    steps.begin(PLACES[1], 30)
    assert len(steps.under_way) == 2
    assert PLACES[0] in steps.under_way
    await steps.end(PLACES[0])
    assert PLACES[0] not in steps.under_way
    assert steps.under_way.has_room(1, 70)
    assert not steps.under_way.has_room(1, 71)
    assert steps.woken == 1
    await steps.end(PLACES[1])


async def test_ranges_under_way_are_few_whatever_their_size() -> None:
    steps = Steps(most_rows=100)
    assert steps.under_way.has_room(2, 100)
    assert not steps.under_way.has_room(3, 3)
    steps.begin(PLACES[0], 1)
    assert steps.under_way.has_room(1, 1)
    assert not steps.under_way.has_room(2, 2)
    steps.begin(PLACES[1], 1)
    assert not steps.under_way.has_room(1, 1)
    await steps.end(PLACES[0])
    assert steps.under_way.has_room(1, 1)
    await steps.end(PLACES[1])


def test_a_range_alone_has_room_whatever_its_size() -> None:
    assert UnderWay(2, 100, lambda: None).has_room(1, 1_000)


@pytest.mark.parametrize(
    ("errors", "raised"),
    [
        pytest.param([], None, id="none"),
        pytest.param([SinkAbandoned("given away")], None, id="abandoned"),
        pytest.param([FencedError("past it")], FencedError, id="fenced"),
        pytest.param([FencedError("past it"), ValueError("a bug")], ValueError, id="a bug later"),
        pytest.param([ValueError("a bug"), FencedError("past it")], ValueError, id="a bug before"),
    ],
)
async def test_gravest_error_is_raised_once(
    errors: list[Exception], raised: type[Exception] | None
) -> None:
    steps = Steps()
    for place, error in zip(PLACES, errors, strict=False):
        steps.begin(place)
        await steps.end(place, error)
    if raised is not None:
        with pytest.raises(raised):
            steps.under_way.raise_error()
    steps.under_way.raise_error()


async def test_a_fence_of_before_says_nothing_of_what_is_assigned_next() -> None:
    steps = Steps()
    steps.begin(PLACES[0])
    await steps.end(PLACES[0], FencedError("past it"))
    steps.under_way.forget_fenced()
    steps.under_way.raise_error()
    steps.begin(PLACES[0])
    await steps.end(PLACES[0], ValueError("a bug"))
    steps.under_way.forget_fenced()
    with pytest.raises(ValueError, match="a bug"):
        steps.under_way.raise_error()


async def test_cancelled_ranges_have_ended_and_are_no_error() -> None:
    steps = Steps()
    for place in PLACES:
        steps.begin(place)
    await steps.under_way.cancel()
    assert not len(steps.under_way)
    assert steps.under_way.has_room(1, 100)
    assert steps.woken == 3
    steps.under_way.raise_error()
