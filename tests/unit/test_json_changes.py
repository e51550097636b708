"""Merge patches, and what differs between two definitions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.json_changes import FieldChange, differences, merged

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=2), json_values, max_size=4)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # from RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_does_what_its_standard_shows(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


@given(objects, objects)
def test_merge_patch_given_twice_changes_nothing_more(target: Any, patch: Any) -> None:
    once = merged(target, patch)
    assert merged(once, patch) == once


@given(objects)
def test_object_does_not_differ_from_itself(value: Any) -> None:
    assert differences(value, value) == []


def test_differences_name_the_field_and_members_of_a_list_by_their_key() -> None:
    before = {"name": "a", "variations": [{"key": "x", "weight": 1}, {"key": "y", "weight": 2}]}
    after = {"name": "b", "variations": [{"key": "x", "weight": 3}, {"key": "z", "weight": 2}]}
    assert differences(before, after) == [
        FieldChange("name", "a", "b"),
        FieldChange("variations.x.weight", 1, 3),
        FieldChange("variations.y", {"weight": 2}, None),
        FieldChange("variations.z", None, {"weight": 2}),
    ]


def test_differences_show_another_order_of_the_same_members() -> None:
    before = {"v": [{"key": "x"}, {"key": "y"}]}
    after = {"v": [{"key": "y"}, {"key": "x"}]}
    assert differences(before, after) == [FieldChange("v (order)", ["x", "y"], ["y", "x"])]


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, True), (0, False), ("1", 1), ([1], [True]), ([{"key": 1}], [{"key": 2}]), ([], None)],
)
def test_differences_tell_apart_what_python_takes_for_equal(before: Any, after: Any) -> None:
    assert differences({"a": before}, {"a": after}) == [FieldChange("a", before, after)]
