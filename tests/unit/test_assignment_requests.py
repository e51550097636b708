"""Requests for assignments, out of record batches: the good ones, and why the others are dead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.record import schema_text
from schemas.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS
from streams.assignment_requests import Asked, Request, RequestReader
from streams.record_batches import split
from streams.settings import WorkerSettings
from tests.unit.record_batch_making import NOON, Made, batch, encoded, registry, schema_id

TEXT = schema_text(ASSIGNMENT_REQUESTS.schema)
REPLIES = ("lobby", "gone")
EXISTING = frozenset({ASSIGNMENTS.name, "lobby"})


def made(timestamp_ms: int = NOON, **fields: Any) -> Made:
    event = {
        "request_id": "r1",
        "ts": NOON,
        "unit": "u1",
        "attributes": [],
        "experiments": ["tone"],
        "reply_to": "",
        **fields,
    }
    return Made(b"u1", encoded(TEXT, schema_id(ASSIGNMENT_REQUESTS), event), timestamp_ms)


def read(*records: Made, first: int = 100, last: int = 10_000) -> Asked:
    batches = list(split(batch(records, 100), 100))
    return RequestReader(registry(), REPLIES).read(batches, first, last, EXISTING)


def test_requests_are_read_in_their_order_with_attributes_as_values() -> None:
    pairs = [{"name": "level", "value": "12"}, {"name": "locale", "value": "en"}]
    asked = read(
        made(attributes=pairs),
        made(request_id="r2", experiments=[], reply_to="lobby", timestamp_ms=NOON + 5),
        made(request_id="r3", reply_to=ASSIGNMENTS.name),
    )
    assert list(asked.requests()) == [
        Request("r1", "u1", {"level": 12, "locale": "en"}, ["tone"], ASSIGNMENTS.name),
        Request("r2", "u1", {}, [], "lobby"),
        Request("r3", "u1", {}, ["tone"], ASSIGNMENTS.name),
    ]
    assert (asked.oldest_append_ms, asked.newest_append_ms) == (NOON, NOON + 5)
    assert asked.dead == ()


def test_only_requests_of_the_range_are_read() -> None:
    asked = read(*(made(request_id=f"r{n}") for n in range(5)), first=101, last=103)
    assert [request.request_id for request in asked.requests()] == ["r1", "r2", "r3"]


@pytest.mark.parametrize(
    ("record", "reason", "says"),
    [
        pytest.param(
            made(reply_to="exposures.v1"),
            "reply_not_allowed",
            "reply_to is exposures.v1, which ANABRANCH_WORKER__REPLY_TOPICS does not name; leave "
            "it empty for assignments.v1",
            id="topic that is not allowed",
        ),
        pytest.param(
            made(reply_to="gone"),
            "reply_not_allowed",
            "reply_to is gone, which is allowed and does not exist in Kafka",
            id="topic that is not there",
        ),
        pytest.param(
            made(unit=""),
            "invalid",
            "unit is ''; it must have 1 to 256 characters, not 0",
            id="no unit",
        ),
        pytest.param(
            made(experiments=["a b"]),
            "invalid",
            "experiments[0]: item is 'a b'; it must match",
            id="key of a strange form",
        ),
        pytest.param(
            made(attributes=[{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]),
            "invalid",
            "attributes holds 'a' twice",
            id="attribute named twice",
        ),
        pytest.param(made(ts=NOON + 86_400_000), "time_out_of_range", "ts is", id="asked tomorrow"),
        pytest.param(Made(b"u1", b"{}"), "bad_magic", "should be 0", id="JSON"),
        pytest.param(Made(b"u1", None), "empty", "no value", id="tombstone"),
    ],
)
def test_bad_request_is_dead_with_the_reason_and_the_others_are_read(
    record: Made, reason: str, says: str
) -> None:
    asked = read(made(request_id="before"), record, made(request_id="after"))
    assert [request.request_id for request in asked.requests()] == ["before", "after"]
    (dead,) = asked.dead
    assert (dead.offset, dead.value, dead.reason) == (101, record.value, reason)
    assert says in dead.detail


def test_range_without_a_good_request_has_no_times() -> None:
    asked = read(Made(b"u1", None))
    assert (list(asked.requests()), asked.oldest_append_ms, asked.newest_append_ms) == (
        [],
        None,
        None,
    )


def test_reply_topics_may_not_be_topics_of_other_records() -> None:
    with pytest.raises(ValidationError, match=r"names exposures\.v1, which holds other records"):
        WorkerSettings(reply_topics=("lobby", "exposures.v1"))
    assert WorkerSettings(reply_topics=("lobby", ASSIGNMENTS.name)).reply_topics


def test_worker_that_does_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="nothing is left to do"):
        WorkerSettings(ingest=False, assignments=False)
