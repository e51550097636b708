from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.access_settings import LimitSettings
from service.callers import Caller
from service.metrics import ServiceMetrics
from service.rate_limits import Buckets, RateLimits
from service.roles import Role


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.lists(st.floats(0, 3), max_size=200),
    st.sampled_from([0.5, 3.0, 50.0]),
    st.sampled_from([1.0, 7.0]),
)
def test_buckets_never_let_through_more_than_the_burst_and_the_rate(
    pauses: list[float], per_second: float, burst: float
) -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    let_through = 0
    for pause in pauses:
        clock.now += pause
        let_through += buckets.take("a", per_second, burst).allowed
        assert let_through <= burst + clock.now * per_second + 1e-6


def test_buckets_let_the_next_one_through_after_the_wait_they_told() -> None:
    clock = Clock()
    buckets = Buckets(clock=clock)
    for _ in range(4):
        taken = buckets.take("a", 2, 4)
    assert (taken.allowed, taken.left, taken.wait_seconds, taken.full_seconds) == (True, 0, 0.5, 2)
    refused = buckets.take("a", 2, 4)
    assert not refused.allowed
    clock.now += refused.wait_seconds
    assert buckets.take("a", 2, 4).allowed


def test_buckets_of_one_caller_take_nothing_from_another() -> None:
    buckets = Buckets(clock=Clock())
    assert [buckets.take("a", 1, 1).allowed for _ in range(3)] == [True, False, False]
    assert buckets.take("b", 1, 1).allowed


def test_buckets_stay_bounded_whoever_comes() -> None:
    buckets = Buckets(most=100, clock=Clock())
    for number in range(1_000):
        buckets.take(str(number), 1, 1)
    assert len(buckets) == 100


def test_limits_tell_what_is_left_and_when_it_is_all_there_again() -> None:
    clock, metrics = Clock(), ServiceMetrics()
    limits = RateLimits(LimitSettings(viewer=2, burst_seconds=2), metrics, clock)
    caller = Caller.of_role(Role.VIEWER)
    told = [limits.take(caller)[1] for _ in range(5)]
    assert {headers["RateLimit-Policy"] for headers in told} == {'"viewer";q=4;w=2'}
    assert [headers["RateLimit"] for headers in told] == [
        *('"viewer";r=3;t=1', '"viewer";r=2;t=1', '"viewer";r=1;t=2', '"viewer";r=0;t=2'),
        '"viewer";r=0;t=2',
    ]
    assert [headers.get("Retry-After") for headers in told] == [None, None, None, None, "1"]
    counted = metrics.registry.get_sample_value(
        "anabranch_http_rate_limited_total", {"role": "viewer"}
    )
    assert counted == 1
