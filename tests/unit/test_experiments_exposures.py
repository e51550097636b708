"""Exposures of assignments: what they carry, and each of them once."""

from __future__ import annotations

import logging
import threading

import pytest

from anabranch.assignment import Assignment, Reason
from anabranch.errors import PersonalIdentifierError
from anabranch.events import Exposure
from anabranch.exposing import exposure_of
from anabranch.exposure_log import ExposureLog
from anabranch.exposure_memory import ExposureMemory
from anabranch.fields import Event, now_ms
from anabranch.intake import Intake

FOUND = Assignment("tone", 3, "warm", {}, Reason.ASSIGNED, "mfrggzdfmztwq2lk")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def log_to(intake: Intake, memory: ExposureMemory | None = None) -> ExposureLog:
    class Emitter:
        def emit(self, event: Event) -> bool:
            return intake.offer(event)

    remembered = ExposureMemory(1_000, 3_600) if memory is None else memory
    return ExposureLog(Emitter(), remembered, "dialogue/2")


def intake_of(capacity: int = 1_000, *, strict: bool = False) -> Intake:
    return Intake(capacity, strict=strict, wake=lambda: None)


def test_exposure_carries_the_dimensions_as_text_and_no_other_attribute() -> None:
    known = {"locale": "pt-BR", "level": 12, "share": 0.5, "new": True, "none": None, "secret": "x"}
    event = exposure_of(FOUND, known, ["level", "share", "new", "none", "absent"], "dialogue/2.4")
    assert event.problem(now_ms()) is None
    assert event.exposure_id == FOUND.exposure_id
    assert (event.experiment, event.version, event.variation) == ("tone", 3, "warm")
    assert (event.unit, event.locale, event.source) == (FOUND.unit, "pt-BR", "dialogue/2.4")
    assert event.attributes == {"level": "12", "share": "0.5", "new": "true"}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 1_025, id="too long"),
        pytest.param(["a"], id="a list"),
        pytest.param({"a": 1}, id="an object"),
        pytest.param(10**5_000, id="a huge number"),
        pytest.param("a\x00b", id="a control character"),
        pytest.param("\ud800", id="half a character"),
        pytest.param("jo@example.com", id="an e-mail address"),
        pytest.param("+49 170 1234567", id="a phone number"),
        pytest.param(object(), id="anything"),
    ],
)
def test_log_counts_a_dimension_that_does_not_fit_and_logs_without_it(value: object) -> None:
    intake = intake_of()
    log = log_to(intake)
    log.log(FOUND, {"level": 3, "what": value}, ["level", "what"])
    assert (log.logged, log.dimensions_left_out) == (1, 1)
    (taken,) = intake.take(1)
    assert isinstance(taken.event, Exposure)
    assert taken.event.attributes == {"level": "3"}


@pytest.mark.parametrize("locale", ["en_US", "", 7, None, "x" * 40, "en-\n", ["en"]])
def test_exposure_has_no_locale_when_it_is_no_language_tag(locale: object) -> None:
    event = exposure_of(FOUND, {"locale": locale}, [], "")
    assert event.locale == ""
    assert event.problem(now_ms()) is None


def test_log_takes_an_exposure_once_within_the_window() -> None:
    clock, intake = Clock(), intake_of()
    log = log_to(intake, ExposureMemory(1_000, 3_600, clock))
    for now, logged in ((0, 1), (1, 1), (3_599, 1), (3_600, 2), (3_601, 2)):
        clock.now = now
        log.log(FOUND, {}, [])
        assert (log.logged, intake.counters.emitted) == (logged, logged)
    assert log.memory.repeated == 3


@pytest.mark.parametrize(
    "other",
    [
        Assignment("other", 3, "warm", {}, Reason.ASSIGNED, FOUND.unit),
        Assignment("tone", 4, "warm", {}, Reason.ASSIGNED, FOUND.unit),
        Assignment("tone", 3, "control", {}, Reason.ASSIGNED, FOUND.unit),
        Assignment("tone", 3, "warm", {}, Reason.ASSIGNED, "another"),
    ],
    ids=["experiment", "version", "variation", "unit"],
)
def test_log_takes_an_exposure_that_differs_in_its(other: Assignment) -> None:
    log = log_to(intake_of())
    for found in (FOUND, other, FOUND, other):
        log.log(found, {}, [])
    assert log.logged == 2


def test_log_tries_again_what_the_emitter_refused() -> None:
    intake = intake_of(capacity=1)
    log = log_to(intake)
    other = Assignment("other", 1, "warm", {}, Reason.ASSIGNED, "u")
    log.log(FOUND, {}, [])
    log.log(other, {}, [])
    assert (log.logged, log.refused, intake.counters.dropped["queue_full"]) == (1, 1, 1)
    intake.take(1)
    intake.delivered(1)
    log.log(other, {}, [])
    assert (log.logged, log.refused) == (2, 1)


def test_log_raises_what_a_strict_emitter_raises_and_does_not_remember_it() -> None:
    log = log_to(intake_of(strict=True))
    personal = Assignment("tone", 3, "warm", {}, Reason.ASSIGNED, "jo@example.com")
    for _ in range(2):
        with pytest.raises(PersonalIdentifierError):
            log.log(personal, {}, [])
    assert (log.logged, log.refused, len(log.memory)) == (0, 2, 0)


def test_log_breaks_nothing_when_the_emitter_itself_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def emit(self, event: Event) -> bool:
            raise RuntimeError("can't start new thread")

    log = ExposureLog(Broken(), ExposureMemory(10, 60), "")
    with caplog.at_level(logging.ERROR, "anabranch"):
        for _ in range(3):
            log.log(FOUND, {}, [])
    assert (log.logged, log.refused, len(caplog.messages)) == (0, 3, 1)


def test_memory_forgets_what_was_not_asked_for_the_longest() -> None:
    memory = ExposureMemory(2, 60)
    assert [memory.is_new(key) for key in "aabacab"] == [
        *(True, False, True, False, True, False, True)
    ]
    assert len(memory) == 2


def test_memory_says_it_to_one_thread_only() -> None:
    memory, new = ExposureMemory(10_000, 60), list[int]()
    start = threading.Barrier(4)

    def ask() -> None:
        start.wait()
        new.extend(key for key in range(5_000) if memory.is_new(key))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new) == list(range(5_000))
    assert memory.repeated == 15_000
