"""What a targeting condition means, beside GrowthBook's Python SDK, and how it bears any input.

Where that SDK and the one in JavaScript differ is for test_conditions_javascript.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from growthbook.core import evalCondition
from hypothesis import given
from hypothesis import strategies as st

from anabranch.conditions import compile_condition
from anabranch.errors import ConditionError

Groups = dict[str, frozenset[str | int | float]]


def holds(
    condition: Mapping[str, Any], attributes: Mapping[str, Any], groups: Groups | None = None
) -> bool:
    return compile_condition(condition)(attributes, groups or {})


PLAYER = {
    "id": "u1",
    "locale": "en-GB",
    "age": 22,
    "paying": False,
    "app": "2.3.1",
    "tags": ["beta", "Mobile"],
    "device": {"os": "ios", "screens": [{"width": 1179}, {"width": 2360, "pen": True}]},
}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        pytest.param({}, True, id="nothing is asked"),
        pytest.param({"device.os": "ios"}, True, id="a path into an object"),
        pytest.param({"device.screens.1.width": 2360}, True, id="a path into a list"),
        pytest.param({"device.screens.length": 2}, True, id="the length of a list"),
        pytest.param({"device.screens.01.width": 2360}, False, id="an index with a zero before"),
        pytest.param({"device.os.name": None}, True, id="a path through a text"),
        pytest.param({"age": {"$gte": 18, "$lt": 30}}, True, id="operators are ANDed"),
        pytest.param({"age": {"$gte": 18, "$lt": 30, "$ne": 22}}, False, id="three operators"),
        pytest.param({"locale": "en-GB", "age": 23}, False, id="attributes are ANDed"),
        pytest.param({"$and": [{"age": 22}, {"id": "u1"}]}, True, id="and"),
        pytest.param({"$and": []}, True, id="and of nothing"),
        pytest.param({"$or": [{"age": 1}, {"id": "u1"}]}, True, id="or"),
        pytest.param({"$or": []}, True, id="or of nothing"),
        pytest.param({"$nor": [{"age": 1}, {"id": "u2"}]}, True, id="nor"),
        pytest.param({"$nor": []}, False, id="nor of nothing"),
        pytest.param({"$not": {"age": 22, "id": "u2"}}, True, id="not around attributes"),
        pytest.param({"age": {"$not": {"$gt": 30}}}, True, id="not under an attribute"),
        pytest.param({"tags": {"$elemMatch": {"$regexi": "^mob"}}}, True, id="an item"),
        pytest.param({"device.screens": {"$elemMatch": {"pen": True}}}, True, id="an item's field"),
        pytest.param(
            {"device.screens": {"$elemMatch": {"width": {"$lt": 2000}, "pen": True}}},
            False,
            id="both in one item",
        ),
        pytest.param(
            {"tags": {"$elemMatch": {"length": None, "$or": [{"a": 1}]}}}, False, id="or in an item"
        ),
        pytest.param({"tags": {"$size": {"$gt": 1}}}, True, id="size"),
        pytest.param({"locale": {"$notRegex": "^fr"}}, True, id="no match"),
        pytest.param({"locale": {"$notRegexi": "^EN"}}, False, id="a match in any case"),
        pytest.param({"gone": {"$notRegex": "l"}}, True, id="a missing one matches nothing"),
        pytest.param({"locale": {"$regex": r"^en[-_](GB|AU)$"}}, True, id="an expression"),
        pytest.param({"locale": {"$regex": r"-GB$"}}, True, id="a plain end"),
        pytest.param({"app": {"$regex": r"^2\.3\.1$"}}, True, id="a plain whole"),
        pytest.param({"app": {"$regex": r"^2\.3\.$"}}, False, id="a plain whole that is longer"),
        pytest.param({"$groups": {"$elemMatch": {"$eq": "x"}}}, False, id="GrowthBook's $groups"),
    ],
)
def test_condition_answers_as_growthbook_does(condition: dict[str, Any], expected: bool) -> None:
    assert holds(condition, PLAYER) is expected
    assert evalCondition(PLAYER, condition, {}) is expected


def test_group_condition_follows_the_members_given_at_each_call() -> None:
    condition = compile_condition({"id": {"$inGroup": "testers"}}, groups={"testers"})
    assert condition(PLAYER, {"testers": frozenset({"u1"})})
    assert not condition(PLAYER, {"testers": frozenset({"u2"})})
    assert not condition(PLAYER, {})
    assert holds({"id": {"$notInGroup": "testers"}}, PLAYER)


# Kinds stay apart here: an attribute always has the kind that it is compared with.
TEXTS = st.sampled_from(["", "a", "b", "aB", "Ab", "10", "9", "é", "É", "\U0001f600", "\ufb01"])
NUMBERS = st.sampled_from([0, 1, -1, 2, 2.5, 10, 1e21, 1e-7])
VERSIONS = st.sampled_from(["0", "1.2.3", "v1.2.3", "1.2.3-rc.1", "1.10.0", "1.9.0+b7", "1.2", "x"])
EXPRESSIONS = st.sampled_from(["a", "^a", "b$", "^$", "[ab]+", "(a|b)b", "^.$", r"\d", r"\bA", "é"])
SHAPES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "1", "0"]), inner, min_size=1, max_size=2)
    ),
    max_leaves=5,
)
ORDER = ("$lt", "$lte", "$gt", "$gte")


def operators(*names: str, operand: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Any]]:
    return [st.fixed_dictionaries({name: operand}) for name in names]


def on(values: st.SearchStrategy[Any], *more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    literals = values | st.none()
    lists = st.lists(literals, max_size=3)
    return st.one_of(
        values,
        *operators("$eq", "$ne", operand=literals),
        *operators("$in", "$nin", "$ini", "$nini", operand=lists),
        *operators("$type", operand=st.sampled_from(["string", "number", "boolean", "null"])),
        *operators("$exists", operand=st.booleans()),
        *operators("$inGroup", "$notInGroup", operand=st.sampled_from(["some", "gone"])),
        *more,
    )


ON_TEXT = on(
    TEXTS,
    *operators(*ORDER, operand=TEXTS),
    *operators("$regex", "$regexi", "$notRegex", "$notRegexi", operand=EXPRESSIONS),
)
ON_NUMBER = on(NUMBERS, *operators(*ORDER, operand=NUMBERS))
ON_VERSION = st.one_of(
    operators("$veq", "$vne", "$vlt", "$vlte", "$vgt", "$vgte", operand=VERSIONS)
)
ON_LIST = st.one_of(
    st.lists(TEXTS, max_size=3),
    *operators(
        "$in", "$nin", "$ini", "$nini", "$all", "$alli", operand=st.lists(TEXTS, max_size=3)
    ),
    *operators("$size", operand=st.integers(0, 3) | st.just({"$gt": 1})),
    *operators("$elemMatch", "$not", operand=st.one_of(operators("$eq", "$lt", operand=TEXTS))),
)
ENTRIES: dict[str, st.SearchStrategy[Any]] = {
    "text": ON_TEXT | st.fixed_dictionaries({"$not": ON_TEXT}),
    "number": ON_NUMBER | st.fixed_dictionaries({"$not": ON_NUMBER}),
    "version": ON_VERSION,
    "list": ON_LIST,
    "flag": st.booleans() | st.fixed_dictionaries({"$eq": st.booleans()}),
    "shape": st.lists(SHAPES, max_size=2),
    "inner.text": ON_TEXT,
    "gone": st.fixed_dictionaries({"$exists": st.booleans()}) | st.none(),
}
CONDITIONS = st.recursive(
    st.fixed_dictionaries({}, optional=ENTRIES),
    lambda inner: st.one_of(
        *operators("$and", "$or", "$nor", operand=st.lists(inner, max_size=3)),
        *operators("$not", operand=inner),
        st.fixed_dictionaries({"$or": st.lists(inner, max_size=2), "number": ON_NUMBER}),
    ),
    max_leaves=4,
)
ATTRIBUTES = st.fixed_dictionaries(
    {
        "text": TEXTS,
        "number": NUMBERS,
        "version": VERSIONS,
        "list": st.lists(TEXTS, max_size=3),
        "flag": st.booleans(),
        "shape": st.lists(SHAPES, max_size=2),
        "inner": st.fixed_dictionaries({"text": TEXTS}),
    }
)
SOME: list[str | int | float] = ["a", "é", 1, 2.5]


@given(CONDITIONS, ATTRIBUTES)
def test_condition_answers_as_growthbook_does_for_any_condition_of_matching_kinds(
    condition: dict[str, Any], attributes: dict[str, Any]
) -> None:
    ours = holds(condition, attributes, {"some": frozenset(SOME)})
    assert ours is evalCondition(attributes, condition, {"some": SOME})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
)


@given(CONDITIONS, st.dictionaries(st.sampled_from(["text", "number", "list", "inner"]), JSON))
def test_condition_never_raises_and_explains_exactly_what_fails_for_any_json(
    condition: dict[str, Any], attributes: dict[str, Any]
) -> None:
    compiled = compile_condition(condition)
    held = compiled(attributes, {})
    assert isinstance(held, bool)
    assert bool(compiled.explain(attributes, {})) is not held


def nested_list(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


EVERY_OPERATOR: list[dict[str, Any]] = [
    *({"x": {name: "5"}} for name in ("$eq", "$ne", *ORDER, "$veq", "$vlte")),
    *({"x": {name: 5}} for name in ("$eq", "$ne", *ORDER)),
    *({"x": {name: ["a", 5, None]}} for name in ("$in", "$nini", "$all", "$alli")),
    *({"x": {name: "(a+)+$"}} for name in ("$regex", "$regexi", "$notRegex")),
    *({"x": literal} for literal in ("a", 5, True, None, [["a"]], {"a": {"b": 1}})),
    {"x": {"$elemMatch": {"a": 1}}},
    {"x": {"$inGroup": "some"}},
    {"x.0.0": 1},
]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a" * 1_000_000, id="a long text"),
        pytest.param("1" * 1_000_000 + "x", id="digits and a letter"),
        pytest.param("v" + "1." * 100_000, id="a long version"),
        pytest.param(" +\n" * 300_000, id="many lines"),
        pytest.param(["a"] * 20_000, id="a long list"),
        pytest.param(nested_list(10_000), id="a deep list"),
        pytest.param({str(n): n for n in range(100_000)}, id="a large object"),
        pytest.param(10**5000, id="a number of 5,000 digits"),
        pytest.param(-(10**400), id="a number below every float"),
        pytest.param("\ud800", id="half a surrogate pair"),
        pytest.param(object(), id="no JSON"),
    ],
)
def test_condition_takes_time_in_proportion_to_the_value(value: Any) -> None:
    compiled = [compile_condition(condition) for condition in EVERY_OPERATOR]
    started = time.process_time()
    for condition in compiled:
        condition({"x": value}, {"some": frozenset({"a"})})
        condition.explain({"x": value}, {})
    assert time.process_time() - started < 10


def test_catastrophic_expression_ends_at_once() -> None:
    condition = compile_condition({"x": {"$regex": "(a+)+$"}})
    started = time.process_time()
    assert not condition({"x": "a" * 50_000 + "b"}, {})
    assert time.process_time() - started < 0.1


def test_all_of_ten_thousand_is_no_product_with_a_long_list() -> None:
    condition = compile_condition({"x": {"$all": [*range(5_000), *map(str, range(5_000))]}})
    started = time.process_time()
    assert condition({"x": list(range(100_000))}, {})
    assert not condition({"x": list(range(1, 100_000))}, {})
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("condition", "sentences"),
    [
        ({"locale": {"$in": ["de", "fr"]}}, ['locale is "en-GB", wanted one of "de", "fr"']),
        ({"gone": "x"}, ['gone is missing, wanted "x"']),
        ({"age": {"$gte": 18, "$lt": 20}}, ["age is 22, wanted less than 20"]),
        ({"age": 1, "id": "u2"}, ["age is 22, wanted 1", 'id is "u1", wanted "u2"']),
        (
            {"$or": [{"age": 1}, {"app": {"$vgte": "3.0.0"}}]},
            [
                "none of 2 alternatives holds: age is 22, wanted 1 / "
                'app is "2.3.1", wanted version "3.0.0" or after'
            ],
        ),
        ({"$not": {"age": 22}}, ["$not excludes age is 22"]),
        ({"$nor": [{"age": 1}, {"id": "u1"}]}, ['$nor excludes id is "u1"']),
        ({"tags": {"$size": 3}}, ['tags is ["beta", "Mobile"], wanted a list whose length is 3']),
        ({"locale": "en-GB"}, []),
    ],
)
def test_explanation_names_the_parts_that_fail(
    condition: dict[str, Any], sentences: list[str]
) -> None:
    assert compile_condition(condition).explain(PLAYER, {}) == sentences


def test_condition_error_is_a_value_error_of_the_sdk() -> None:
    with pytest.raises(ValueError, match="no operator") as caught:
        compile_condition({"x": {"$foo": 1}})
    assert isinstance(caught.value, ConditionError)
