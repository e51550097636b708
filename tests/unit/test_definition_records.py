"""The fold of the definition log, case by case."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from anabranch.definition_records import (
    KEPT_VERSIONS,
    NOTHING,
    Documents,
    LogRecord,
    Outcome,
    Unreadable,
    changed_keys,
    documents_of,
    fold,
    fold_all,
)


def a_record(
    offset: int, version: int, *, key: str = "npc_tone", by: str = "ann", **other: Any
) -> LogRecord:
    content = {
        "key": key,
        "version": version,
        "status": "running",
        "definition": json.dumps({"by": by}),
        "changed_by": by,
        "changed_at": 1_767_225_600_000 + offset,
        "comment": "",
        "confirms": None,
        **other,
    }
    return LogRecord(offset, key.encode(), content)


def outcomes(*records: LogRecord) -> tuple[Documents, list[Outcome]]:
    documents, verdicts = fold_all(NOTHING, records)
    return documents, [verdict.outcome for verdict in verdicts]


def test_fold_takes_the_first_of_two_records_of_one_version() -> None:
    documents, seen = outcomes(a_record(0, 1), a_record(1, 2, by="ann"), a_record(2, 2, by="bob"))
    assert seen == [Outcome.WON, Outcome.WON, Outcome.LOST]
    assert documents["npc_tone"].changed_by == "ann"
    assert documents.revision == 3
    assert documents.shadowed == {"npc_tone"}


def test_fold_leaves_a_stale_version_out() -> None:
    documents, seen = outcomes(a_record(0, 1), a_record(1, 2), a_record(2, 1, by="bob"))
    assert seen[2] is Outcome.LOST
    assert documents["npc_tone"].version == 2


def test_fold_begins_with_any_version_when_compaction_removed_those_before() -> None:
    documents, seen = outcomes(a_record(40, 7), a_record(41, 8))
    assert seen == [Outcome.WON, Outcome.WON]
    assert [document.version for document in documents.history("npc_tone")] == [7, 8]


def test_fold_knows_a_copy_of_the_winner() -> None:
    winner, loser = a_record(1, 2, by="ann"), a_record(2, 2, by="bob")
    documents, seen = outcomes(a_record(0, 1), winner, loser, a_record(3, 2, by="ann", confirms=1))
    assert seen[3] is Outcome.REPEATED
    assert documents["npc_tone"].offset == 1
    assert not documents.shadowed


def test_fold_prefers_the_copy_when_compaction_left_the_loser_in_front_of_it() -> None:
    documents, seen = outcomes(a_record(2, 2, by="bob"), a_record(3, 2, by="ann", confirms=1))
    assert seen == [Outcome.WON, Outcome.WON]
    assert documents["npc_tone"].changed_by == "ann"
    assert len(documents.history("npc_tone")) == 1


def test_fold_refuses_a_copy_of_what_came_later() -> None:
    documents, seen = outcomes(a_record(0, 1, by="ann"), a_record(5, 1, by="bob", confirms=3))
    assert seen[1] is Outcome.LOST
    assert documents["npc_tone"].changed_by == "ann"


def test_fold_tells_that_an_unreadable_record_hides_the_winner() -> None:
    broken = LogRecord(1, b"npc_tone", Unreadable("no value"))
    documents, verdict = fold(fold(NOTHING, a_record(0, 1))[0], broken)
    assert verdict == (1, "npc_tone", Outcome.UNREADABLE, "no value")
    assert documents.shadowed == {"npc_tone"}
    assert documents.revision == 2
    assert not fold(documents, a_record(2, 2))[0].shadowed


@pytest.mark.parametrize(
    ("record", "said"),
    [
        pytest.param(a_record(3, 0), "version 0 is below 1", id="version zero"),
        pytest.param(a_record(3, 1)._replace(key=b"other"), "its key is b'other'", id="other key"),
        pytest.param(a_record(3, 1)._replace(key=None), "its key is None", id="no key"),
        pytest.param(a_record(3, 1)._replace(key=b"\xff"), "its key is b'\\xff'", id="no UTF-8"),
        pytest.param(a_record(3, 1, definition="{"), "not a JSON object", id="no JSON"),
        pytest.param(a_record(3, 1, definition="[1]"), "of type list", id="an array"),
        pytest.param(a_record(3, 1, definition='{"a":NaN}'), "no NaN", id="not a number"),
        pytest.param(
            a_record(3, 1, definition='{"a":' + "[" * 99_000 + "]" * 99_000 + "}"),
            "not a JSON object",
            id="nested without an end",
        ),
        pytest.param(a_record(3, 1, confirms=3), "does not lie before it", id="confirms itself"),
    ],
)
def test_fold_skips_what_is_no_definition_and_says_why(record: LogRecord, said: str) -> None:
    documents, verdict = fold(NOTHING, record)
    assert verdict.outcome is Outcome.UNREADABLE
    assert verdict.reason is not None
    assert said in verdict.reason
    assert not documents
    assert documents.revision == 4


def test_document_is_read_only_at_every_depth() -> None:
    text = '{"variations":[{"key":"warm","ranges":[[0,0.5]]}]}'
    document = fold(NOTHING, a_record(0, 1, definition=text))[0]["npc_tone"]
    (variation,) = document.definition["variations"]
    assert isinstance(variation, MappingProxyType)
    assert variation["ranges"] == ((0, 0.5),)


def test_documents_are_told_apart_by_their_kind() -> None:
    documents, _ = outcomes(a_record(0, 1), a_record(1, 1, key="holdout:spring"))
    assert [document.name for document in documents.of_kind("holdout")] == ["spring"]
    assert [document.name for document in documents.of_kind("experiment")] == ["npc_tone"]


def test_history_keeps_the_newest_versions_alone() -> None:
    documents, _ = outcomes(*(a_record(number, number + 1) for number in range(KEPT_VERSIONS + 5)))
    versions = [document.version for document in documents.history("npc_tone")]
    assert versions == list(range(6, KEPT_VERSIONS + 6))
    assert documents.history("unknown") == ()


def test_changed_keys_are_those_that_came_changed_or_went() -> None:
    before, _ = outcomes(a_record(0, 1, key="a"), a_record(1, 1, key="b"), a_record(2, 1, key="c"))
    after = documents_of([before["a"], fold(before, a_record(3, 2, key="b"))[0]["b"]], 4)
    assert changed_keys(before, after) == {"b", "c"}
    assert changed_keys(before, documents_of(before.values(), 9)) == set()
