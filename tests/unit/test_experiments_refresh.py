"""Definitions stay up to date, and what was good stays in use when they cannot."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from anabranch.assignment import Reason
from anabranch.change_stream import Message, messages
from anabranch.definition_refresh import DefinitionRefresh
from anabranch.definition_sources import Document, Snapshot, SourceError, read_snapshot
from anabranch.parameters import Adjusted


class Told:
    """A source that answers what it is told to, one after the other, and then that all is known."""

    def __init__(self, *answers: Snapshot | SourceError) -> None:
        self.answers = list(answers)
        self.etags: list[str] = []

    def fetch(self, etag: str) -> Snapshot | None:
        self.etags.append(etag)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, SourceError):
            raise answer
        return answer

    def follow(self, silence_seconds: float) -> Any:
        raise OSError("no stream here")


def document(key: str = "tone", version: int = 1, status: str = "running", **fields: Any) -> Any:
    variations = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]
    return Document(key, version, status, {"key": key, "variations": variations, **fields})


def snapshot(revision: int, *documents: Document) -> Snapshot:
    return Snapshot(revision, 0, documents, etag=f'"{revision}"')


def refresh_of(*answers: Snapshot | SourceError, replicas: bool = False) -> DefinitionRefresh:
    source = Told(*answers)
    return DefinitionRefresh(source, poll_seconds=5, streams=source if replicas else None)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "anabranch"):
        yield caplog


def test_refresh_takes_what_comes_and_asks_by_its_etag_then() -> None:
    source = Told(snapshot(3, document()))
    refresh = DefinitionRefresh(source, poll_seconds=5)
    assert (refresh.loaded, refresh.age_seconds, refresh.wait(0)) == (False, None, False)
    assert 4.5 <= refresh.refresh_once() <= 5.5
    assert refresh.definitions.assign("tone", "u2").reason is Reason.ASSIGNED
    assert (refresh.revision, refresh.refreshes, refresh.problem) == (3, 1, None)
    refresh.refresh_once()
    assert source.etags == ["", '"3"']
    assert (refresh.refreshes, refresh.wait(0)) == (1, True)


def test_refresh_makes_only_the_changed_plans_again() -> None:
    refresh = refresh_of(
        snapshot(1, document("a"), document("b")),
        snapshot(2, document("a"), document("b", 2)),
        snapshot(3, document("b", 2)),
    )
    refresh.refresh_once()
    first = dict(refresh.definitions.plans)
    refresh.refresh_once()
    assert refresh.definitions.plans["a"] is first["a"]
    assert refresh.definitions.plans["b"].version == 2
    refresh.refresh_once()
    assert list(refresh.definitions.plans) == ["b"]


def test_refresh_takes_a_document_of_the_same_version_that_says_something_else() -> None:
    # A log that was begun anew gives the same versions to other definitions.
    refresh = refresh_of(snapshot(1, document()), snapshot(1, document(coverage=0)))
    refresh.refresh_once()
    refresh.refresh_once()
    assert refresh.definitions.assign("tone", "u2").reason is Reason.NOT_COVERED


def test_refresh_goes_on_with_what_it_has_when_its_source_is_away(
    warnings: pytest.LogCaptureFixture,
) -> None:
    away = SourceError("http://x/v1/definitions: refused")
    refresh = refresh_of(away, away, snapshot(7, document()), away)
    waits = [refresh.refresh_once(), refresh.refresh_once()]
    assert refresh.problem == "http://x/v1/definitions: refused; there are no definitions yet"
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1
    assert len(warnings.messages) == 1  # and not one for each try
    refresh.refresh_once()
    assert refresh.failures == 2
    assert not refresh.problem
    refresh.refresh_once()
    expected = "http://x/v1/definitions: refused; revision 7 goes on, 0 s old"
    assert refresh.problem == expected
    assert refresh.definitions.assign("tone", "u2").reason is Reason.ASSIGNED


def test_refresh_waits_longer_and_longer_for_a_source_but_half_a_minute_at_most() -> None:
    refresh = refresh_of(*[SourceError("away")] * 20)
    assert 15 <= [refresh.refresh_once() for _ in range(20)][-1] <= 30


def test_refresh_believes_an_older_revision_once_nothing_else_is_answered() -> None:
    older = snapshot(8, document(version=8))
    refresh = refresh_of(snapshot(9, document(version=9)), older, older, older, replicas=True)
    refresh.refresh_once()
    for expected in (9, 9, 8):
        refresh.refresh_once()
        assert refresh.revision == expected


def test_refresh_asks_again_at_once_when_another_replica_told_of_more() -> None:
    source = Told(snapshot(4, document()))
    refresh = DefinitionRefresh(source, poll_seconds=5, streams=source)
    refresh._changed(5)
    waits = [refresh.refresh_once() for _ in range(8)]
    assert waits[0] < 0.1
    assert waits == sorted(waits)  # longer and longer, and in the end as usual
    assert waits[-1] > 4


def test_refresh_counts_and_tells_invalid_parameters_once_a_version(
    warnings: pytest.LogCaptureFixture,
) -> None:
    params = {"max_output_tokens": 9_000, "nobody_knows": 1}
    refresh = refresh_of(
        snapshot(1, document(params=params)),
        snapshot(2, document(params=params), document("other")),
        snapshot(3, document(params=params, version=2), document("other")),
        snapshot(4, document("draft", status="draft", params=params)),
    )
    for _ in range(2):
        refresh.refresh_once()
    assert refresh.invalid_params == {
        ("tone", "max_output_tokens", Adjusted.CLAMPED): 1,
        ("tone", "nobody_knows", Adjusted.UNKNOWN): 1,
    }
    (line,) = warnings.messages
    assert line.startswith("parameters of tone, version 1: max_output_tokens is 4096")
    refresh.refresh_once()
    assert refresh.invalid_params["tone", "max_output_tokens", Adjusted.CLAMPED] == 2
    refresh.refresh_once()
    assert not [key for key in refresh.invalid_params if key[0] == "draft"]


def test_refresh_tells_of_a_definition_that_cannot_be_used_and_uses_the_others(
    warnings: pytest.LogCaptureFixture,
) -> None:
    refresh = refresh_of(snapshot(1, document("bad", weight=1), document()))
    refresh.refresh_once()
    assert list(refresh.definitions.unusable) == ["bad"]
    assert warnings.messages == [
        "version 1 of bad cannot be used: weight: Extra inputs are not permitted"
    ]
    assert refresh.definitions.assign("tone", "u2").reason is Reason.ASSIGNED
    assert refresh.definitions.assign("bad", "u2").reason is Reason.INVALID_DEFINITION


def test_refresh_keeps_what_it_has_when_documents_break_the_reading() -> None:
    members = Document("members:tone:1", 1, "running", {"of": "another release"})
    refresh = refresh_of(snapshot(1, document()), snapshot(2, members))
    refresh.refresh_once()
    refresh.refresh_once()
    assert refresh.problem is not None
    assert refresh.problem.startswith("revision 2 cannot be read: KeyError")
    assert refresh.revision == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<html>", "x holds no JSON: Expecting value"),
        (b"[]", 'x holds no definitions; they are {"revision": 12, "documents": [...]}'),
        (b'{"documents": [7]}', "x: documents[0] must be an object with key, version, status"),
        (b'{"documents": [{"key": "a"}]}', "x: documents[0]: version must be a whole number"),
        (b'{"documents": [], "revision": "1"}', "x: revision must be a whole number, not '1'"),
        (b"\xff", "x holds no JSON: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "x holds no JSON: maximum recursion depth exceeded"),
    ],
)
def test_snapshot_says_what_is_wrong_and_where(body: bytes, sentence: str) -> None:
    with pytest.raises(SourceError) as raised:
        read_snapshot(body, "x")
    assert str(raised.value).startswith(sentence)


def test_snapshot_refuses_a_key_that_is_there_twice() -> None:
    one = {"key": "a", "version": 1, "status": "draft", "definition": {}}
    with pytest.raises(SourceError, match=r"documents\[1\]: 'a' is there twice"):
        read_snapshot(json.dumps({"documents": [one, one]}).encode(), "x")


def test_event_stream_is_read_as_the_standard_says() -> None:
    lines = [
        b": hello\n",
        b"event: changed\r\n",
        b'data: {"revision": 3}\r\n',
        b"\r\n",
        b"event: nothing\n",
        b"\n",
        b"data:one\n",
        b"data: two\n",
        b"id: 7\n",
        b"\n",
        b"data: broken off",
    ]
    found = [message for message in messages(lines) if message is not None]
    assert found == [Message("changed", '{"revision": 3}'), Message("message", "one\ntwo")]
