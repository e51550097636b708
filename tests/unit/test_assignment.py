"""Which variation, and why: in the order in which it is decided."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from anabranch.assignment import Assignment, Reason
from anabranch.definition_set import DefinitionSet

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


class Document(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


def experiment(key: str = "tone", /, status: str = "running", **fields: Any) -> Document:
    variations = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]
    return Document(key, 3, status, {"key": key, "variations": variations, **fields})


def decided(
    *documents: Document,
    unit: Any = "u3",
    at: datetime = NOW,
    key: str = "tone",
    attributes: Mapping[str, Any] | None = None,
    **options: Any,
) -> Assignment:
    definitions = DefinitionSet.of(documents)
    assert not definitions.unusable
    return definitions.assign(key, unit, attributes or {}, at=at.timestamp(), **options)


def test_unit_gets_the_variation_of_its_bucket() -> None:
    found = decided(experiment())
    assert (found.variation, found.reason, found.version) == ("warm", Reason.ASSIGNED, 3)
    assert found.in_experiment
    assert found.rationale == "bucket 0.8171 falls to this variation"
    assert decided(experiment(), unit="u2").variation == "control"


def test_exposure_id_is_the_same_for_the_same_experiment_version_and_unit() -> None:
    first, again = decided(experiment()), decided(experiment(name="renamed"))
    assert first.exposure_id == again.exposure_id
    other = decided(experiment()._replace(version=4))
    assert first.exposure_id != other.exposure_id


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (experiment(status="draft"), "the experiment is draft"),
        (experiment(status="stopped"), "the experiment is stopped"),
        (experiment(status="archived"), "the experiment is archived"),
        (experiment(status="scheduled", starts_at=LATER), "the experiment is scheduled"),
        (experiment(starts_at=LATER), "the experiment is scheduled"),
        (experiment(stops_at=NOW), "the experiment is stopped"),
    ],
)
def test_experiment_that_does_not_run_gives_the_default(document: Document, sentence: str) -> None:
    found = decided(document)
    assert (found.variation, found.reason, found.in_experiment) == (
        *("control", Reason.NOT_RUNNING, False),
    )
    assert found.rationale == sentence


def test_scheduled_experiment_runs_from_its_start_on() -> None:
    document = experiment(status="scheduled", starts_at=NOW)
    assert decided(document).reason is Reason.ASSIGNED
    assert decided(document, at=NOW - timedelta(milliseconds=1)).reason is Reason.NOT_RUNNING


@pytest.mark.parametrize("unit", ["", "x" * 257, {}, {"session": ""}, {"player": "p"}])
def test_without_a_usable_unit_there_is_the_default(unit: Any) -> None:
    found = decided(experiment(), unit=unit)
    assert (found.variation, found.reason) == ("control", Reason.NO_UNIT)
    assert found.rationale == "there is no session to decide by"


def test_unit_of_the_right_kind_is_taken() -> None:
    units = {"session": "u2", "player": "u3"}
    assert decided(experiment(), unit=units).variation == "control"
    assert decided(experiment(unit="player"), unit=units).variation == "warm"
    by_attribute = decided(experiment(unit="team"), unit={}, attributes={"team": 7})
    assert (by_attribute.unit, by_attribute.in_experiment) == ("7", True)


def test_forced_unit_gets_its_variation_whatever_else_holds_and_does_not_count() -> None:
    document = experiment(forced={"u2": "warm"}, coverage=0, targeting={"locale": "xx"})
    found = decided(document, unit="u2")
    assert (found.variation, found.reason, found.in_experiment) == ("warm", Reason.FORCED, False)
    assert decided(document).reason is Reason.NOT_TARGETED


@pytest.mark.parametrize(
    ("locale", "on"),
    [("de", False), ("de-AT", True), ("de-DE", False), ("en-GB", True), (None, True), (7, True)],
)
def test_language_that_is_off_gets_the_default(locale: object, on: bool) -> None:
    document = experiment(locales={"de": False, "de-AT": True})
    found = decided(document, attributes={"locale": locale})
    assert found.reason is (Reason.ASSIGNED if on else Reason.LOCALE_OFF)


def test_languages_that_are_not_named_are_off_when_the_rest_is() -> None:
    document = experiment(locales={"*": False, "de": True})
    assert decided(document, attributes={"locale": "de-DE"}).reason is Reason.ASSIGNED
    assert decided(document, attributes={"locale": "deu"}).reason is Reason.LOCALE_OFF
    assert decided(document).reason is Reason.LOCALE_OFF


def test_prerequisite_asks_for_a_variation_of_another_experiment() -> None:
    asking = experiment(prerequisites=[{"experiment": "base", "variations": ["warm"]}])
    assert decided(asking, experiment("base", seed="tone")).reason is Reason.ASSIGNED
    refused = decided(asking, experiment("base", seed="tone"), unit="u2")
    assert refused.reason is Reason.PREREQUISITE
    assert refused.rationale == "the unit is not in a wanted variation of base"
    assert decided(asking).reason is Reason.PREREQUISITE
    assert decided(asking, experiment("base", "stopped")).reason is Reason.PREREQUISITE


def test_prerequisites_that_go_round_in_circles_give_the_default() -> None:
    one = experiment(prerequisites=[{"experiment": "other", "variations": ["warm"]}])
    other = experiment("other", prerequisites=[{"experiment": "tone", "variations": ["warm"]}])
    assert decided(one, other).variation == "control"


def test_holdout_goes_by_its_own_unit() -> None:
    everyone = Document("holdout:winter", 1, "running", {"unit": "player", "share": 10_000})
    document = experiment(holdout="winter")
    found = decided(document, everyone, unit={"session": "u3", "player": "p"})
    assert found.reason is Reason.HELD_OUT
    nobody = everyone._replace(definition={"unit": "player", "share": 0})
    assert decided(document, nobody, unit={"session": "u3", "player": "p"}).in_experiment
    assert decided(document, nobody, unit={"session": "u3"}).reason is Reason.HELD_OUT


def test_namespaces_share_units_out() -> None:
    first = experiment("first", namespace={"name": "chat", "start": 0, "end": 4_000})
    second = experiment("second", namespace={"name": "chat", "start": 4_000, "end": 10_000})
    both = DefinitionSet.of([first, second])
    for number in range(500):
        inside = [one.in_experiment for one in both.assign_all(f"u{number}")]
        assert sum(inside) == 1


def test_member_of_an_earlier_phase_keeps_its_variation() -> None:
    members = Document(
        *("members:tone:0", 1, "running"),
        {"experiment": "tone", "variation": "control", "units": ["u3"]},
    )
    found = decided(experiment(), members)
    assert (found.variation, found.reason) == ("control", Reason.EARLIER_PHASE)
    assert found.in_experiment
    assert decided(experiment(), members, unit="u4").reason is Reason.ASSIGNED


def test_units_that_change_hands_wait_while_a_phase_opens() -> None:
    variations = [{"key": "control", "weight": 1_000}, {"key": "warm", "weight": 9_000}]
    phases = [
        {"number": 1, "weights": [5_000, 5_000], "opened_at": EARLIER},
        {"number": 2, "weights": [1_000, 9_000], "opened_at": NOW, "opening": True},
    ]
    opening = DefinitionSet.of([experiment(variations=variations, phases=phases)])
    phases[1]["opening"] = False
    opened = DefinitionSet.of([experiment(variations=variations, phases=phases)])
    before = DefinitionSet.of([experiment()])
    at = NOW.timestamp()
    seen = set()
    for number in range(500):
        unit = f"u{number}"
        was, during, then = (one.assign("tone", unit, at=at) for one in (before, opening, opened))
        if was.variation == then.variation:
            assert during.variation == was.variation
            assert during.reason is Reason.ASSIGNED
        else:
            assert (during.variation, during.reason) == ("control", Reason.PHASE_OPENING)
        seen.add(during.reason)
    assert seen == {Reason.ASSIGNED, Reason.PHASE_OPENING}


def test_raising_coverage_moves_nobody_between_variations() -> None:
    definitions = [
        DefinitionSet.of([experiment(coverage=coverage)]) for coverage in (1_000, 5_000, 10_000)
    ]
    for number in range(500):
        answers = [one.assign("tone", f"u{number}") for one in definitions]
        got = [answer.variation for answer in answers if answer.in_experiment]
        assert got == [answers[-1].variation] * len(got)
        inside = [answer.in_experiment for answer in answers]
        assert inside == sorted(inside)


def test_ramp_covers_more_from_its_steps_on() -> None:
    steps = [{"at": EARLIER, "coverage": 0}, {"at": LATER, "coverage": 10_000}]
    definitions = DefinitionSet.of([experiment(ramp=steps)])
    assert definitions.assign("tone", "u3", at=NOW.timestamp()).reason is Reason.NOT_COVERED
    assert definitions.assign("tone", "u3", at=LATER.timestamp()).in_experiment
    # By a clock that was set back.
    assert definitions.assign("tone", "u3", at=NOW.timestamp()).reason is Reason.NOT_COVERED


def test_experiment_that_nobody_made_is_said_to_be_unknown() -> None:
    found = decided(experiment(), key="other")
    assert (found.variation, found.reason, found.version) == ("", Reason.UNKNOWN_EXPERIMENT, 0)


def test_definition_of_a_later_release_is_not_guessed_at() -> None:
    definitions = DefinitionSet.of([experiment(of_later=1), experiment("other")])
    found = definitions.assign("tone", "u3")
    assert found.reason is Reason.INVALID_DEFINITION
    assert "of_later" in found.rationale
    assert definitions.assign("other", "u3").in_experiment


def test_change_makes_only_its_own_plan_again() -> None:
    before = DefinitionSet.of([experiment(), experiment("other")])
    after = before.with_changes([experiment(coverage=0)._replace(version=4)])
    assert after.plans["other"] is before.plans["other"]
    assert after.assign("tone", "u3").reason is Reason.NOT_COVERED
    assert before.assign("tone", "u3").reason is Reason.ASSIGNED
    deleted = after.with_changes([experiment(status="deleted")])
    assert deleted.assign("tone", "u3").reason is Reason.UNKNOWN_EXPERIMENT


def test_trace_says_what_was_asked_and_found() -> None:
    found = decided(
        experiment(targeting={"locale": "en"}), attributes={"locale": "de"}, explain=True
    )
    assert [(step.question, step.passed) for step in found.trace] == [
        ("is it running?", True),
        ("is there a unit?", True),
        ("is it targeted?", False),
    ]


@pytest.mark.parametrize(
    "attributes", [{"locale": {"a": [1]}}, {"locale": "x" * 1_000_000}, {"": ""}]
)
def test_strange_attributes_break_nothing(attributes: Mapping[str, Any]) -> None:
    document = experiment(targeting={"locale": {"$regex": "(a+)+$"}}, locales={"de": False})
    assert decided(document, attributes=attributes).reason is not Reason.FAILED


def test_holdout_of_another_kind_goes_by_the_attribute_of_that_kind() -> None:
    """Whether the unit comes as one text or by its kind: every door asks in its own way."""
    half = Document("holdout:winter", 1, "running", {"unit": "player", "share": 5_000})
    definitions = DefinitionSet.of([experiment(holdout="winter"), half])
    for number in range(200):
        attributes = {"player": f"p{number}"}
        by_text = definitions.assign("tone", "s1", attributes)
        by_kind = definitions.assign("tone", {"session": "s1", "player": f"p{number}"})
        assert by_text.reason == by_kind.reason


@pytest.mark.parametrize("unit", ["jo@example.com", "a\nb"])
def test_attribute_that_cannot_go_into_an_event_is_no_unit(unit: str) -> None:
    found = decided(experiment(unit="player"), unit={"*": "k"}, attributes={"player": unit})
    assert found.reason is Reason.NO_UNIT


def test_units_outside_both_phases_are_just_not_covered_while_one_opens() -> None:
    variations = [{"key": "control", "weight": 2_000}, {"key": "warm", "weight": 8_000}]
    phases = [
        {"number": 1, "weights": [10_000], "opened_at": EARLIER},
        {"number": 2, "weights": [2_000, 8_000], "opened_at": NOW, "opening": True},
    ]
    document = experiment(variations=variations, phases=phases, coverage=1_000)
    definitions = DefinitionSet.of([document])
    assert not definitions.unusable
    reasons = [
        definitions.assign("tone", f"u{number}", at=NOW.timestamp(), explain=True).reason
        for number in range(2_000)
    ]
    assert set(reasons) == {Reason.ASSIGNED, Reason.PHASE_OPENING, Reason.NOT_COVERED}
    assert reasons.count(Reason.NOT_COVERED) > 1_500
