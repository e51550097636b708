"""The generated events: one truth, in the .avsc, for every way an event can come in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from anabranch.events import EVENT_TYPES, RECORD_TYPES, Exposure, ExposureRef, Outcome, TurnMetric
from anabranch.fields import Event, milliseconds
from schemas.generate import stale_files
from schemas.record import Kind, parse, schema_text
from schemas.topics import CATALOGUE, TOPICS

NOW = 1_795_219_200_000
DAY = 86_400_000
ADAPTERS = {record: TypeAdapter[Any](record) for record in RECORD_TYPES}


def example(record: type[Event]) -> dict[str, Any]:
    """A good event as JSON has it, made of the examples in the schema."""
    topic = next(topic for topic in TOPICS if topic.name == record.TOPIC)
    found: dict[str, Any] = {}
    for field in parse(schema_text(topic.schema)).fields:
        if field.kind is Kind.TIME:
            found[field.name] = NOW
        elif field.kind is Kind.RECORDS and field.items is not None:
            found[field.name] = [
                {item.name: item.attributes["example"] for item in field.items.fields}
            ]
        else:
            found[field.name] = field.attributes.get("example", "")
    return found


def constructed(record: type[Event], values: dict[str, Any]) -> Event:
    """By the plain constructor, as a service does it."""
    values = dict(values)
    exposures = values.get("exposures")
    if isinstance(exposures, list) and all(isinstance(item, dict) for item in exposures):
        values["exposures"] = tuple(ExposureRef(**item) for item in exposures)
    return record(**values)


def pydantic_accepts(record: type[Event], values: dict[str, Any]) -> bool:
    try:
        ADAPTERS[record].validate_python(values)
    except ValidationError:
        return False
    return True


texts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(max_codepoint=0x20), max_size=3),
    st.text(st.characters(categories=["Cs", "Cc", "Zs"]), max_size=3),
    st.sampled_from(["en", "pt-BR", "en_US", "a" * 128, "a" * 129, "a" * 256, "a" * 257, "x y"]),
)
numbers = st.one_of(
    st.integers(),
    st.integers(-1, 1),
    st.floats(),
    st.sampled_from([86_400_000, 86_400_001, 10**15, 10**15 + 1, -(10**15), 10**400, 1e16]),
)
plain = st.one_of(texts, numbers, st.booleans(), st.none(), st.binary(max_size=3))
anything = st.one_of(plain, st.lists(plain, max_size=3), st.dictionaries(texts, plain, max_size=3))


@pytest.mark.parametrize("record", RECORD_TYPES, ids=lambda record: record.TYPE)
def test_example_of_the_schema_is_right_for_every_check(record: type[Event]) -> None:
    assert constructed(record, example(record)).problem(NOW) is None
    assert pydantic_accepts(record, example(record))


@given(st.data())
def test_problem_agrees_with_pydantic_on_any_value_of_any_field(data: st.DataObject) -> None:
    record = data.draw(st.sampled_from(RECORD_TYPES))
    values = example(record)
    # Times are left out: pydantic knows no clock.
    name = data.draw(st.sampled_from(sorted(values.keys() - {"ts", "changed_at"})))
    values[name] = data.draw(anything)
    problem = constructed(record, values).problem(NOW)
    assert (problem is None) == pydantic_accepts(record, values), problem
    if problem is not None:
        assert problem.startswith(name)


@given(st.sampled_from(["experiment", "version", "variation", "unit"]), plain)
def test_problem_agrees_with_pydantic_inside_of_an_exposure(name: str, value: object) -> None:
    values = example(TurnMetric)
    values["exposures"][0][name] = value
    problem = constructed(TurnMetric, values).problem(NOW)
    assert (problem is None) == pydantic_accepts(TurnMetric, values), problem
    assert problem is None or problem.startswith(f"exposures[0].{name} ")


@pytest.mark.parametrize("record", RECORD_TYPES, ids=lambda record: record.TYPE)
def test_event_survives_avro_without_logical_types(record: type[Event]) -> None:
    event = constructed(record, example(record))
    schema = json.loads(record.SCHEMA)
    for field in schema["fields"]:
        if isinstance(field["type"], dict):
            field["type"].pop("logicalType", None)
    parsed = fastavro.parse_schema(schema)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, parsed, event.avro())
    body.seek(0)
    assert fastavro.schemaless_reader(body, parsed, None) == event.avro()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"turn_ms": -5}, "turn_ms is -5; it must be a whole number", id="negative"),
        pytest.param({"turn_ms": True}, "turn_ms is True", id="truth value"),
        pytest.param({"session": ""}, "session is ''; it must have 1 to 256", id="empty id"),
        pytest.param({"session": "a\0b"}, "session holds the control character U+0000", id="null"),
        pytest.param({"locale": "en_US"}, "locale is 'en_US'; it must match", id="underscore"),
        pytest.param({"ts": 0}, "ts is 0, which is 20778 days ago", id="1970"),
        pytest.param({"ts": 7_258_118_400_000}, "days ahead", id="2200"),
        pytest.param({"ts": NOW // 1000}, "may be in seconds", id="seconds"),
        pytest.param({"ts": 10**30}, "ts is a number of 100 bits", id="beyond 64 bits"),
        pytest.param({"exposures": ("x",)}, "exposures[0] is 'x'; it must be of", id="no record"),
    ],
)
def test_problem_names_the_field_and_what_is_right(change: dict[str, Any], said: str) -> None:
    problem = constructed(TurnMetric, example(TurnMetric) | change).problem(NOW)
    assert problem is not None
    assert said in problem


@pytest.mark.parametrize(
    ("ts", "right"),
    [
        (NOW - 400 * DAY, True),
        (NOW - 400 * DAY - 1, False),
        (NOW + 600_000, True),
        (NOW + 600_001, False),
    ],
)
def test_time_is_right_up_to_its_very_limits(ts: int, right: bool) -> None:
    outcome = Outcome(unit="u1", values={"purchase": 1}, ts=ts)
    assert (outcome.problem(NOW) is None) == right


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2e15])
def test_outcome_refuses_a_value_that_would_poison_a_sum(value: float) -> None:
    problem = Outcome(unit="u1", values={"cost": value}, ts=NOW).problem(NOW)
    assert problem is not None
    assert problem.startswith("values['cost'].value is ")


def test_json_time_may_be_iso_8601_or_milliseconds() -> None:
    body = '{"unit":"u1","values":{"a":1},"ts":%s}'
    adapter = ADAPTERS[Outcome]
    assert adapter.validate_json(body % '"2026-11-21T00:00:00Z"').ts == NOW
    assert adapter.validate_json(body % NOW).ts == NOW
    with pytest.raises(ValidationError, match="carries no timezone"):
        adapter.validate_json(body % '"2026-11-21T00:00:00"')


def test_unknown_field_in_json_is_refused() -> None:
    with pytest.raises(ValidationError, match="Unexpected keyword"):
        ADAPTERS[Exposure].validate_python(example(Exposure) | {"varation": "warm"})


def test_event_gets_an_id_of_its_own_and_the_present_time() -> None:
    first, second = (Outcome(unit="u1", values={"a": 1}) for _ in range(2))
    assert first.event_id != second.event_id
    assert first.problem(first.ts) is None


def test_milliseconds_refuses_a_time_without_a_zone() -> None:
    from datetime import UTC, datetime

    assert milliseconds(datetime(2026, 11, 21, tzinfo=UTC)) == NOW
    with pytest.raises(ValueError, match="no timezone"):
        milliseconds(datetime(2026, 11, 21))


def test_event_types_are_what_services_emit() -> None:
    assert sorted(EVENT_TYPES) == ["exposure", "invite", "outcome", "turn_metric"]
    assert {record.TOPIC for record in RECORD_TYPES} == {topic.name for topic in TOPICS}


def test_generated_files_follow_from_the_schemas() -> None:
    assert stale_files() == []


def test_readme_map_names_every_topic() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    missing = [topic.name for topic in TOPICS if f"`{topic.name}`" not in readme]
    assert not missing, f"the map in README.md lacks {', '.join(missing)}"


def test_every_topic_has_a_dead_letter_topic_that_keeps_longer_and_takes_more() -> None:
    by_name = {topic.name: topic for topic in CATALOGUE}
    for topic in TOPICS:
        dead = by_name[f"{topic.name}.dead"]
        assert topic.dead_letters == dead.name
        assert dead.partitions == topic.partitions
        assert dead.max_batch_bytes > topic.max_batch_bytes
        assert topic.retention is None or (dead.retention or topic.retention) > topic.retention
