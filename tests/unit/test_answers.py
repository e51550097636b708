"""From requests to what is written: an answer for each experiment, and the exposures."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anabranch.assignment import Assignment as Decision
from anabranch.assignment import Reason
from anabranch.definition_set import DefinitionSet
from anabranch.encoding import without_logical_types
from anabranch.events import Assignment, Exposure
from anabranch.exposing import exposure_of
from anabranch.fields import Event
from schemas.topics import ASSIGNMENTS, EXPOSURES
from streams.answer_encoding import AnswerEncoding, event_id, number, text
from streams.answers import Answering, Answers, Record
from streams.assignment_requests import AttributeValue, Request, attribute_value

NOW_MS = 1_795_262_400_000


class Document(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


def experiment(key: str, /, status: str = "running", **fields: Any) -> Document:
    variations = [
        {"key": "control", "weight": 5_000},
        {"key": "warm", "weight": 5_000, "params": {"max_output_tokens": 600}},
    ]
    return Document(key, 3, status, {"key": key, "variations": variations, **fields})


def request(
    *experiments: str,
    request_id: str = "r1",
    unit: str = "u3",
    topic: str = ASSIGNMENTS.name,
    **attributes: AttributeValue,
) -> Request:
    return Request(request_id, unit, attributes, experiments, topic)


def answered(*requests: Request, documents: tuple[Document, ...]) -> Answers:
    answers, answering = Answers(), Answering(11, 1, "worker/1")
    definitions = DefinitionSet.of(documents)
    for one in requests:
        answering.answer(one, definitions, NOW_MS, answers)
    return answers


def decoded(record: Record, kind: type[Event], schema_id: int) -> dict[str, Any]:
    _, value = record
    assert value[:5] == b"\0" + schema_id.to_bytes(4, "big")
    body = io.BytesIO(value[5:])
    schema = fastavro.parse_schema(json.loads(kind.SCHEMA))
    event: Any = fastavro.schemaless_reader(body, schema, None)
    assert not body.read()
    return dict(event)


def test_answer_says_what_the_function_decided() -> None:
    answers = answered(request("tone"), documents=(experiment("tone"),))
    (record,) = answers.records[ASSIGNMENTS.name]
    expected = DefinitionSet.of([experiment("tone")]).assign("tone", "u3", at=NOW_MS / 1000)
    assert record[0] == b"u3"
    assert decoded(record, Assignment, 11) == {
        "request_id": "r1",
        "unit": "u3",
        "experiment": "tone",
        "version": 3,
        "variation": "warm",
        "params": '{"max_output_tokens":600}',
        "exposure_id": expected.exposure_id,
        "rationale": expected.rationale,
    }
    assert (answers.count, answers.by_reason) == (1, {Reason.ASSIGNED: 1})


def test_exposure_is_logged_for_a_unit_in_the_experiment_and_for_no_other() -> None:
    documents = (
        experiment("tone", dimensions=["level"]),
        experiment("off", status="stopped"),
        experiment("aside", targeting={"level": 99}),
    )
    asked = request("tone", "off", "aside", "nobody", locale="pt-BR", level=12, mail="secret")
    answers = answered(asked, documents=documents)
    assert len(answers.records[ASSIGNMENTS.name]) == 4
    (record,) = answers.records[EXPOSURES.name]
    exposure = decoded(record, Exposure, 1)
    assert exposure["experiment"] == "tone"
    assert exposure["event_id"] == event_id("r1", exposure["exposure_id"])
    assert exposure["locale"] == "pt-BR"
    assert exposure["attributes"] == [{"name": "level", "value": "12"}]
    assert exposure["source"] == "worker/1"
    assert answers.exposures == 1


def test_unknown_experiment_is_answered_without_version_and_variation() -> None:
    answers = answered(request("nobody"), documents=())
    (record,) = answers.records[ASSIGNMENTS.name]
    answer = decoded(record, Assignment, 11)
    assert (answer["version"], answer["variation"], answer["params"]) == (0, "", "{}")
    assert Assignment(**answer).problem(now_ms=NOW_MS) is None


def test_request_without_experiments_gets_all_that_run() -> None:
    documents = (experiment("one"), experiment("two"), experiment("off", status="draft"))
    answers = answered(request(), documents=documents)
    found = [decoded(r, Assignment, 11)["experiment"] for r in answers.records[ASSIGNMENTS.name]]
    assert found == ["one", "two"]


def test_experiment_named_twice_is_answered_once() -> None:
    answers = answered(request("tone", "tone"), documents=(experiment("tone"),))
    assert answers.count == 1


def test_same_request_gives_the_same_bytes_when_it_is_answered_again() -> None:
    documents = (experiment("tone"),)
    first = answered(request("tone"), documents=documents)
    assert answered(request("tone"), documents=documents).records == first.records


def test_parameters_are_those_of_each_variation() -> None:
    units = [request("tone", unit=f"u{number}") for number in range(40)]
    answers = answered(*units, documents=(experiment("tone"),))
    for record in answers.records[ASSIGNMENTS.name]:
        answer = decoded(record, Assignment, 11)
        given = {"warm": {"max_output_tokens": 600}, "control": {}}
        assert json.loads(answer["params"]) == given[answer["variation"]]


def test_answers_go_to_the_topic_that_the_request_names() -> None:
    answers = answered(request("tone", topic="lobby"), documents=(experiment("tone"),))
    assert len(answers.records["lobby"]) == 1
    assert ASSIGNMENTS.name not in answers.records


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-0.5", -0.5),
        ("1e3", "1e3"),
        ("1.10", "1.10"),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("007", "007"),
        ("+1", "+1"),
        ("1_000", "1_000"),
        ("1.", "1."),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("null", "null"),
        ("", ""),
        ("12 ", "12 "),
        ("٣", "٣"),
        ("9" * 41, "9" * 41),
    ],
)
def test_attribute_is_a_number_or_a_truth_value_when_its_text_is_that_in_json(
    text: str, value: AttributeValue
) -> None:
    found = attribute_value(text)
    assert (found, type(found)) == (value, type(value))


_TEXTS = st.text(max_size=200) | st.sampled_from(["x" * 63, "x" * 64, "é" * 4_100, "\U0001f600"])
_PLAIN = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | _TEXTS


@given(
    answer=st.fixed_dictionaries(
        {
            "request_id": _TEXTS,
            "unit": _TEXTS,
            "experiment": _TEXTS,
            "version": st.integers(0, 2**31 - 1),
            "variation": _TEXTS,
        }
    ),
    params=st.dictionaries(_TEXTS, _PLAIN, max_size=3),
    attributes=st.dictionaries(st.sampled_from(["locale", "level", "plan"]), _PLAIN),
    at_ms=st.integers(0, 2**50),
)
def test_bytes_are_those_that_fastavro_writes(
    answer: dict[str, Any],
    params: dict[str, Any],
    attributes: dict[str, AttributeValue],
    at_ms: int,
) -> None:
    assignment = Decision(
        answer["experiment"],
        answer["version"],
        answer["variation"],
        params,
        Reason.ASSIGNED,
        answer["unit"],
        "0.5000",
    )
    dimensions = ("level", "plan")
    encoding, unit = AnswerEncoding(11, 1, "worker/1"), text(answer["unit"])
    for _ in range(2):  # made, and found again
        exposure_id = assignment.exposure_id
        found = encoding.answer(text(answer["request_id"]), unit, assignment, exposure_id)
        given_params = json.dumps(params, ensure_ascii=False, separators=(",", ":"))
        rest = {"exposure_id": exposure_id, "rationale": assignment.rationale}
        assert found == encoded(11, Assignment, {**answer, "params": given_params, **rest})
        found = encoding.exposure(
            "event", number(at_ms), unit, assignment, exposure_id, attributes, dimensions
        )
        exposure = exposure_of(assignment, attributes, dimensions, "worker/1", at_ms).avro()
        assert found == encoded(1, Exposure, {**exposure, "event_id": "event"})


def encoded(schema_id: int, kind: type[Event], event: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(b"\0" + schema_id.to_bytes(4, "big"))
    schema = fastavro.parse_schema(without_logical_types(json.loads(kind.SCHEMA)))
    fastavro.schemaless_writer(out, schema, event)
    return out.getvalue()


def test_exposures_keep_equal_values_apart_when_they_are_written_differently() -> None:
    document = experiment("tone", dimensions=["level"])
    asked = [request("tone", level=level) for level in (1, True, 1.0, "1")]
    answers = answered(*asked, documents=(document,))
    found = [decoded(record, Exposure, 1) for record in answers.records[EXPOSURES.name]]
    levels = [exposure["attributes"][0]["value"] for exposure in found]
    assert levels == ["1", "true", "1.0", "1"]
