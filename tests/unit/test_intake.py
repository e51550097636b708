"""What a caller of `emit` meets; whether it arrives is for tests/live/test_emitter_delivery.py."""

from __future__ import annotations

import dataclasses
import logging
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch import (
    Exposure,
    ExposureRef,
    InvalidEventError,
    Invite,
    Outcome,
    PersonalIdentifierError,
    Pseudonyms,
)
from anabranch.intake import Intake

GOOD = Outcome(unit="u1", values={"cost": 1.5})
BAD = Outcome(unit="", values={"cost": 1.5})


def intake(capacity: int = 10, *, strict: bool = False) -> Intake:
    return Intake(capacity, strict=strict, wake=lambda: None)


def test_intake_takes_events_in_order() -> None:
    queue = intake()
    events = [Outcome(unit=f"u{n}", values={"cost": 1.0}) for n in range(3)]
    assert all(queue.offer(event) for event in events)
    assert [taken.event for taken in queue.take(2)] == events[:2]
    assert [taken.event for taken in queue.take(2)] == events[2:]
    assert queue.counters.emitted == queue.undelivered == 3


def test_intake_refuses_and_counts_what_it_cannot_hold_until_some_is_delivered() -> None:
    queue = intake(capacity=2)
    assert [queue.offer(GOOD) for _ in range(4)] == [True, True, False, False]
    queue.take(2)
    assert not queue.offer(GOOD), "what is on its way still counts"
    queue.delivered(1)
    assert [queue.offer(GOOD) for _ in range(2)] == [True, False]
    assert queue.counters.dropped["queue_full"] == 4


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param(BAD, "outcome", id="a unit that is missing"),
        pytest.param(
            Outcome(unit="u", values={"cost": float("nan")}), "outcome", id="not a number"
        ),
        pytest.param(Outcome(unit="u", ts=1, values={"cost": 1.0}), "outcome", id="1970"),
        pytest.param({"type": "outcome"}, "unknown", id="a dictionary"),
        pytest.param(None, "unknown", id="nothing"),
        pytest.param(Outcome, "unknown", id="the type itself"),
    ],
)
def test_intake_refuses_and_counts_what_is_invalid(given: Any, kind: str) -> None:
    queue = intake()
    assert not queue.offer(given)
    assert queue.counters.invalid == {kind: 1}
    assert queue.counters.emitted == queue.undelivered == 0
    assert not any(queue.counters.dropped.values())


def test_intake_never_raises_into_the_request_path_even_when_an_event_does() -> None:
    class Broken(Outcome):
        def problem(self, now_ms: int) -> str | None:
            raise RuntimeError("a bug")

    queue = intake()
    assert not queue.offer(Broken(unit="u", values={"cost": 1.0}))
    assert queue.counters.dropped["error"] == 1


def test_intake_refuses_what_comes_after_close() -> None:
    queue = intake()
    queue.closed = True
    assert not queue.offer(GOOD)
    assert queue.counters.dropped["closed"] == 1


def test_intake_counts_exactly_when_many_threads_emit() -> None:
    queue = intake(capacity=3_000)
    ready = threading.Barrier(8)

    def emit() -> None:
        ready.wait()
        for _ in range(500):
            queue.offer(GOOD)
            queue.offer(BAD)

    threads = [threading.Thread(target=emit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.counters.emitted == len(queue.take(10_000)) == 3_000
    assert queue.counters.dropped["queue_full"] == 1_000
    assert queue.counters.invalid == {"outcome": 4_000}


def test_intake_wakes_the_one_who_delivers_once_and_not_for_each_event() -> None:
    woken: list[int] = []
    queue = Intake(100, strict=False, wake=lambda: woken.append(1))
    for _ in range(5):
        queue.offer(GOOD)
    assert len(woken) == 1
    assert not queue.sleep(), "there is work"
    queue.take(5)
    assert queue.sleep()
    queue.offer(GOOD)
    assert len(woken) == 2


def test_intake_keeps_the_event_and_tries_again_when_no_thread_starts() -> None:
    attempts: list[int] = []

    def wake() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("can't start new thread")

    queue = Intake(100, strict=False, wake=wake)
    assert [queue.offer(GOOD) for _ in range(3)] == [True, True, True]
    assert len(attempts) == 2
    assert len(queue.take(10)) == 3


def test_intake_logs_the_first_drop_with_totals_and_not_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = intake(capacity=1)
    with caplog.at_level(logging.WARNING, "anabranch"):
        for _ in range(1000):
            queue.offer(GOOD)
            queue.offer(BAD)
    (record,) = caplog.records
    assert "unit" in record.getMessage()
    assert "in all: dropped {}, invalid {'outcome': 1}" in record.getMessage()


@given(st.lists(st.sampled_from(["good", "bad", "take", "deliver", "drop"]), max_size=60))
def test_intake_accounts_for_every_event(steps: list[str]) -> None:
    queue, on_the_way, offered = intake(capacity=5), 0, 0
    for step in steps:
        if step in {"good", "bad"}:
            offered += 1
            queue.offer(GOOD if step == "good" else BAD)
        elif step == "take":
            on_the_way += len(queue.take(3))
        elif on_the_way:
            on_the_way -= 1
            queue.delivered(1) if step == "deliver" else queue.drop("delivery_timeout", 1)
    counters = queue.counters
    lost = counters.dropped["delivery_timeout"]
    assert counters.emitted == counters.delivered + lost + queue.undelivered
    refused = counters.dropped["queue_full"] + sum(counters.invalid.values())
    assert offered == counters.emitted + refused
    assert queue.undelivered <= 5


def test_strict_intake_raises_for_an_invalid_event_and_names_the_field() -> None:
    queue = intake(strict=True)
    with pytest.raises(InvalidEventError, match="outcome: unit is ''"):
        queue.offer(BAD)
    with pytest.raises(InvalidEventError, match="dict is no event"):
        queue.offer({"unit": "u"})
    assert queue.counters.invalid == {"outcome": 1, "unknown": 1}
    assert queue.offer(GOOD)


EXPOSED = Exposure(exposure_id="x", experiment="tone", version=1, variation="warm", unit="u")
INVITED = Invite(kind="sent", invite_id="i", loop="share", inviter="p1", smart_link_code="c")


@pytest.mark.parametrize(
    ("event", "field"),
    [
        pytest.param(dataclasses.replace(EXPOSED, unit="jo@example.com"), "unit", id="unit"),
        pytest.param(
            dataclasses.replace(INVITED, inviter="+491701234567"), "inviter", id="inviter"
        ),
        pytest.param(
            dataclasses.replace(INVITED, kind="joined", invitee="555-123-4567"),
            "invitee",
            id="invitee",
        ),
        pytest.param(
            dataclasses.replace(
                INVITED,
                exposures=(
                    ExposureRef(experiment="tone", version=1, variation="warm", unit="a@b.cd"),
                ),
            ),
            "exposures\\[0\\].unit",
            id="nested",
        ),
    ],
)
def test_strict_intake_refuses_a_raw_personal_identifier_and_does_not_show_it(
    event: Any, field: str
) -> None:
    queue = intake(strict=True)
    with pytest.raises(PersonalIdentifierError, match=f"{field} is a raw .* Pseudonyms") as refused:
        queue.offer(event)
    assert "@" not in str(refused.value)
    assert "55" not in str(refused.value)
    assert queue.counters.emitted == 0
    assert sum(queue.counters.invalid.values()) == 1


def test_strict_intake_takes_a_pseudonym() -> None:
    unit = Pseudonyms(b"k" * 32).player("jo@example.com")
    assert intake(strict=True).offer(dataclasses.replace(EXPOSED, unit=unit))
