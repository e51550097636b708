"""Whole columns must be judged as the SDK judges each event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anabranch import events
from anabranch.events import Exposure, Invite, Outcome, TurnMetric
from anabranch.fields import Event
from schemas.record import Field, Kind, parse, schema_text
from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS, TopicSpec
from streams.columns import Columns, Decoded
from streams.reasons import BadEventReason
from streams.record_batches import split
from streams.validation import validate
from tests.unit.record_batch_making import NOON, Made, batch, encoded, registry, schema_id

KINDS: list[tuple[TopicSpec, type[Event]]] = [
    (EXPOSURES, Exposure),
    (TURN_METRICS, TurnMetric),
    (INVITES, Invite),
    (OUTCOMES, Outcome),
]
DAY = 86_400_000
# Right or wrong by length, by bytes, by pattern, by what cannot be printed.
TEXTS = [
    "",
    "a",
    "en-GB",
    "a b",
    "-a",
    "sent",
    "\x00",
    "a\n",
    "\x7f",
    "a\x85",
    "\u200b",
    "\u2028",
    "é",
]
NUMBERS = [float("nan"), float("inf"), float("-inf"), 0.0, -1e15, 1e15, 1.1e15, -1.1e15]


def decoded(spec: TopicSpec, given: list[dict[str, Any]], timestamp_ms: int = NOON) -> Decoded:
    text = schema_text(spec.schema)
    made = [
        Made(b"k%d" % at, encoded(text, schema_id(spec), event), timestamp_ms)
        for at, event in enumerate(given)
    ]
    found = Columns(spec, registry()).decode(list(split(batch(made, 100), 100)), 100, 10_000)
    assert found.dead == ()
    return found


def problem(kind: type[Event], spec: TopicSpec, event: dict[str, Any]) -> str | None:
    """What the SDK says."""
    values = dict(event)
    for field in parse(schema_text(spec.schema)).fields:
        if field.kind is Kind.PAIRS:
            names = [pair["name"] for pair in values[field.name]]
            if len(set(names)) < len(names):
                return f"{field.name} holds twice"
            values[field.name] = {pair["name"]: pair["value"] for pair in values[field.name]}
        elif field.kind is Kind.RECORDS:
            assert field.items is not None
            item = getattr(events, field.items.name)
            values[field.name] = tuple(item(**fields) for fields in values[field.name])
    return kind(**values).problem(now_ms=NOON)


def good(field: Field) -> Any:
    rules = field.attributes
    match field.kind:
        case Kind.TEXT:
            return rules["enum"][0] if "enum" in rules else "en"
        case Kind.INTEGER | Kind.NUMBER:
            return rules["minimum"]
        case Kind.TIME:
            return NOON
    return [one(field)] if rules.get("minItems") else []


def one(field: Field) -> dict[str, Any]:
    assert field.items is not None
    return {item.name: good(item) for item in field.items.fields}


def event_of(spec: TopicSpec) -> dict[str, Any]:
    return {field.name: good(field) for field in parse(schema_text(spec.schema)).fields}


def odd(field: Field) -> st.SearchStrategy[Any]:
    """Values on both sides of every line that is drawn."""
    rules = field.attributes
    values: st.SearchStrategy[Any]
    match field.kind:
        case Kind.TEXT:
            longest = rules.get("maxLength", 5)
            long = [text * by for text in ("x", "é") for by in (longest - 1, longest, longest + 1)]
            values = st.sampled_from([*TEXTS, *rules.get("enum", ()), *long]) | st.text(max_size=3)
        case Kind.INTEGER:
            low, high = rules["minimum"], rules["maximum"]
            values = st.sampled_from([low - 1, low, low + 1, high - 1, high, high + 1])
        case Kind.NUMBER:
            values = st.sampled_from(NUMBERS)
        case Kind.TIME:
            back, ahead = rules["maximumAgeDays"] * DAY, rules["maximumAheadMinutes"] * 60_000
            near = [NOON - back, NOON + ahead, 0, NOON // 1000, (1 << 63) - 2, -(1 << 63) + 1]
            values = st.sampled_from([time + by for time in near for by in (-1, 0, 1)])
        case _:
            assert field.items is not None
            item = st.fixed_dictionaries(
                {inner.name: st.just(good(inner)) | odd(inner) for inner in field.items.fields}
            )
            many = [[{**one(field), "name": f"n{at}"} for at in range(count)] for count in (64, 65)]
            if field.kind is Kind.RECORDS:
                many = [[one(field)] * count for count in (64, 65)]
            values = st.lists(item, max_size=3) | st.sampled_from(many)
    return st.none() | values if field.nullable else values


@st.composite
def events_with_odd_fields(draw: st.DrawFn, spec: TopicSpec) -> dict[str, Any]:
    event = event_of(spec)
    for field in parse(schema_text(spec.schema)).fields:
        if draw(st.integers(0, 5)) == 0:
            event[field.name] = draw(odd(field))
    return event


@pytest.mark.parametrize(("spec", "kind"), KINDS, ids=lambda value: getattr(value, "name", ""))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_validate_says_of_each_event_what_the_sdk_says(
    spec: TopicSpec, kind: type[Event], data: st.DataObject
) -> None:
    events = data.draw(st.lists(events_with_odd_fields(spec), min_size=1, max_size=6))
    before = decoded(spec, events)
    after = validate(kind, before)
    expected = {at: problem(kind, spec, event) for at, event in enumerate(events)}
    dead = {record.offset - 100: record for record in after.dead}
    assert dead.keys() == {at for at, wrong in expected.items() if wrong}
    for at, record in dead.items():
        said = expected[at]
        assert said is not None
        assert record.detail == said or said.endswith("holds twice")
        timely = BadEventReason.TIME_OUT_OF_RANGE
        assert record.reason == (timely if said.startswith("ts is") else BadEventReason.INVALID)
        assert record.key == b"k%d" % at
    kept = [at for at in expected if at not in dead]
    assert after.frame.equals(before.frame[kept])


@pytest.mark.parametrize(("spec", "kind"), KINDS, ids=lambda value: getattr(value, "name", ""))
def test_validate_changes_nothing_when_all_is_well(spec: TopicSpec, kind: type[Event]) -> None:
    found = decoded(spec, [event_of(spec)] * 5)
    assert validate(kind, found) is found


def test_validate_judges_a_time_by_the_record_and_not_by_a_clock() -> None:
    long_ago = NOON - 3_000 * DAY
    old = {**event_of(OUTCOMES), "ts": long_ago}
    assert validate(Outcome, decoded(OUTCOMES, [old], long_ago)).dead == ()
    (dead,) = validate(Outcome, decoded(OUTCOMES, [old], NOON)).dead
    assert dead.reason == "time_out_of_range"
    assert dead.detail.startswith(f"ts is {long_ago}, which is 3000 days ago; it must be")


def test_validate_names_the_name_that_comes_twice() -> None:
    pairs = [{"name": name, "value": 1.0} for name in ("a", "b", "a")]
    found = decoded(OUTCOMES, [event_of(OUTCOMES), {**event_of(OUTCOMES), "values": pairs}])
    (dead,) = validate(Outcome, found).dead
    assert (dead.offset, dead.reason) == (101, "invalid")
    assert dead.detail == "values holds 'a' twice; its names must be unique"


def test_validate_names_the_place_in_a_turn() -> None:
    exposure = {"experiment": "x", "version": 1, "variation": "a", "unit": "u"}
    turn = {**event_of(TURN_METRICS), "exposures": [exposure, {**exposure, "version": 0}]}
    (dead,) = validate(TurnMetric, decoded(TURN_METRICS, [event_of(TURN_METRICS), turn])).dead
    assert dead.detail == ("exposures[1].version is 0; it must be a whole number from 1 to 1000000")


def test_validate_takes_an_event_that_only_looks_too_long() -> None:
    found = decoded(OUTCOMES, [{**event_of(OUTCOMES), "unit": "é" * 256}])
    assert validate(Outcome, found).dead == ()


@pytest.mark.parametrize("control", ["\x00", "\x1f", "\x7f", "\x80", "\x9f"])
def test_validate_sees_each_control_character_without_others_beside_it(control: str) -> None:
    odd = {**event_of(OUTCOMES), "unit": f"u{control}"}
    (dead,) = validate(Outcome, decoded(OUTCOMES, [event_of(OUTCOMES), odd])).dead
    assert (dead.offset, dead.detail) == (
        101,
        f"unit holds the control character U+{ord(control):04X} at position 1; it must hold none",
    )


def test_validate_leaves_an_empty_frame() -> None:
    found = Columns(OUTCOMES, registry()).decode([], 0, 0)
    assert validate(Outcome, found) is found
