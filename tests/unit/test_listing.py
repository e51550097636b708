from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.listing import page
from service.problems import Problem

rows = st.lists(st.tuples(st.integers(0, 3), st.text(max_size=3)), unique_by=lambda row: row[1])


@given(rows, st.integers(1, 4), st.booleans())
def test_pages_hold_every_row_once_in_order(
    given_: list[tuple[int, str]], limit: int, descending: bool
) -> None:
    seen: list[tuple[int, str]] = []
    cursor = None
    while True:
        found = page(
            given_,
            lambda row: row,
            limit=limit,
            sort="size",
            descending=descending,
            cursor=cursor,
        )
        assert found.total == len(given_)
        seen += found.rows
        cursor = found.next_cursor
        if cursor is None:
            break
        assert len(found.rows) == limit
    assert seen == sorted(given_, reverse=descending)


def test_row_added_before_the_cursor_repeats_none() -> None:
    first = page(["b", "d", "f"], lambda row: (row, row), limit=2)
    after = page(["a", *"bcdef"], lambda row: (row, row), limit=9, cursor=first.next_cursor)
    assert after.rows == ["e", "f"]


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "%%%",
        "abc",
        base64.urlsafe_b64encode(b"[1,2]").decode(),
        base64.urlsafe_b64encode(json.dumps(["other", "a", "a"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["", 7, "a"]).encode()).decode(),
        base64.urlsafe_b64encode(json.dumps(["", [], "a"]).encode()).decode(),
    ],
)
def test_cursor_that_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(Problem, match="next_cursor"):
        page(["a", "b"], lambda row: (row, row), limit=1, cursor=cursor)
