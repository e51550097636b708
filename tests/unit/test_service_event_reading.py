from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.encoding import Encoder
from anabranch.fields import Event, now_ms
from service.event_documentation import EXAMPLES
from service.event_reading import ACCEPTED, Reason, RefusedError, read_event, type_label

NOW = 1_800_000_000_000
IDS = {event.TOPIC: number for number, event in enumerate(ACCEPTED.values(), start=1)}
ENCODERS = {event: Encoder(event, IDS[event.TOPIC]) for event in ACCEPTED.values()}


def example(kind: str, **fields: Any) -> dict[str, Any]:
    return {**EXAMPLES[kind], "ts": NOW, **fields}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_event_of_each_type_is_read_and_encoded_with_its_key_and_schema_id(kind: str) -> None:
    event = read_event(example(kind), NOW)
    assert isinstance(event, ACCEPTED[kind])
    key, value = ENCODERS[type(event)].encode(event)
    assert key.decode() == EXAMPLES[kind][event.KEY]
    assert value[:5] == b"\0" + IDS[event.TOPIC].to_bytes(4, "big")


def test_event_id_and_ts_are_filled_in_when_absent() -> None:
    given_fields = {name: value for name, value in example("outcome").items() if name != "ts"}
    first, second = (read_event(given_fields, now_ms()) for _ in range(2))
    assert _field(first, "event_id") != _field(second, "event_id")
    assert abs(_field(first, "ts") - now_ms()) < 60_000


def _field(event: Event, name: str) -> Any:
    return getattr(event, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T09:00:00+01:00", NOW),
        ("2027-01-15T08:00:00.250Z", NOW + 250),
    ],
)
def test_ts_is_taken_as_text_with_a_zone(text: str, expected: int) -> None:
    assert _field(read_event(example("outcome", ts=text), NOW), "ts") == expected


@pytest.mark.parametrize(
    ("given_event", "reason", "said"),
    [
        pytest.param(3, Reason.NOT_AN_OBJECT, "not a number", id="a number"),
        pytest.param(None, Reason.NOT_AN_OBJECT, "not null", id="null"),
        pytest.param({}, Reason.UNKNOWN_TYPE, "must be given", id="no type"),
        pytest.param({"type": 3}, Reason.UNKNOWN_TYPE, "a number", id="a type that is no text"),
        pytest.param({"type": "turn-metric"}, Reason.UNKNOWN_TYPE, "turn_metric?", id="close"),
        pytest.param({"type": "audit"}, Reason.UNKNOWN_TYPE, "exposure", id="one of ours alone"),
        pytest.param({"type": "outcome"}, Reason.MISSING_FIELD, "unit", id="nothing else"),
        pytest.param(
            example("outcome", Unit="x"), Reason.UNKNOWN_FIELD, "did you mean unit", id="a case"
        ),
        pytest.param(
            example("outcome", xyzzy=1), Reason.UNKNOWN_FIELD, "there are", id="nothing close"
        ),
        pytest.param(
            example("turn_metric", exposures=[{"experiment": "e", "vers": 1}]),
            Reason.UNKNOWN_FIELD,
            "exposures[0].vers",
            id="an unknown field inside",
        ),
        pytest.param(
            example("turn_metric", exposures=[{"experiment": "e"}]),
            Reason.MISSING_FIELD,
            "exposures[0].unit",
            id="a missing field inside",
        ),
        pytest.param(
            example("turn_metric", exposures=["e"]),
            Reason.INVALID_VALUE,
            "exposures[0] is a string",
            id="no object inside",
        ),
        pytest.param(
            example("turn_metric", turn_ms=-1), Reason.INVALID_VALUE, "turn_ms is -1", id="negative"
        ),
        pytest.param(
            example("turn_metric", turn_ms="12"), Reason.INVALID_VALUE, "whole number", id="a text"
        ),
        pytest.param(
            example("turn_metric", turn_ms=True), Reason.INVALID_VALUE, "True", id="true or false"
        ),
        pytest.param(
            example("outcome", ts="yesterday"), Reason.INVALID_VALUE, "2026-01-31T", id="no time"
        ),
        pytest.param(
            example("outcome", ts="2027-01-15T08:00:00"), Reason.INVALID_VALUE, "zone", id="no zone"
        ),
        pytest.param(
            example("outcome", ts="2200-01-01T00:00:00Z"), Reason.INVALID_VALUE, "ahead", id="2200"
        ),
        pytest.param(example("outcome", ts=0), Reason.INVALID_VALUE, "400 days", id="1970"),
        pytest.param(
            example("outcome", ts=NOW // 1000), Reason.INVALID_VALUE, "ts is", id="seconds"
        ),
        pytest.param(
            example("outcome", values=[{"name": "cost", "value": 1}]),
            Reason.INVALID_VALUE,
            "values",
            id="pairs as a list",
        ),
        pytest.param(
            example("outcome", unit="u\0"), Reason.INVALID_VALUE, "U+0000", id="a null byte"
        ),
    ],
)
def test_event_is_refused_with_what_was_wrong_and_what_would_be_right(
    given_event: Any, reason: Reason, said: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        read_event(given_event, NOW)
    assert refused.value.reason is reason
    assert said in str(refused.value)


def test_error_repeats_a_long_value_in_short() -> None:
    with pytest.raises(RefusedError) as refused:
        read_event({"type": "x" * 100_000}, NOW)
    assert len(str(refused.value)) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(list(ACCEPTED)), st.data())
def test_event_with_any_value_in_any_field_is_encoded_or_refused(
    kind: str, data: st.DataObject
) -> None:
    event = example(kind)
    name = data.draw(st.sampled_from([*event, "another"]))
    event[name] = data.draw(json_values)
    with contextlib.suppress(RefusedError):
        read = read_event(event, NOW)
        ENCODERS[type(read)].encode(read)


@given(json_values)
def test_anything_is_an_event_or_refused_and_has_a_label_from_a_closed_set(value: Any) -> None:
    assert type_label(value) in {*ACCEPTED, "unknown"}
    with contextlib.suppress(RefusedError):
        read_event(value, NOW)
