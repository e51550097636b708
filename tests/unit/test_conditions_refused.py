"""What is refused when a condition is compiled, and what its author is told."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from anabranch.conditions import compile_condition
from anabranch.errors import ConditionError


def under(name: str, operand: Any) -> dict[str, Any]:
    return {"x": {name: operand}}


def nested(levels: int) -> dict[str, Any]:
    condition: dict[str, Any] = {}
    for _ in range(levels - 1):
        condition = {"$not": condition}
    return condition


OPERATORS = [
    ([], "The condition is a list; a condition is such as"),
    ({"locale": {"$inn": ["en"]}}, "locale.$inn is no operator; near are $in, $nin, $ini"),
    (under("$qqq", 1), "x.$qqq is no operator; known are $eq, $ne, $lt,"),
    ({"$nott": {"a": 1}}, "$nott is no operator; near are $not"),
    ({"$gt": 3}, "$gt stands alone; it belongs under an attribute"),
    (under("$or", [{"a": 1}]), "x.$or stands under an attribute; it goes around them"),
    ({"$and": {"a": 1}}, "$and takes a list of conditions, not an object"),
    ({"$or": [{"a": 1}, 3]}, "$or[1] is a number; a condition is such as"),
    ({"$not": [1]}, "$not is a list; a condition is such as"),
    ({"x": {"$gt": 1, "a": 2}}, "x mixes the operator $gt with the name a"),
    ({"$savedGroup": {"id": "g"}}, "$savedGroup is not taken: name the attribute"),
    ({"a..b": 1}, "a..b has an empty name"),
]
OPERANDS = [
    (under("$in", "en"), 'x.$in takes a list such as ["en", "fr"], not a text'),
    (under("$nin", ["en", ["fr"]]), "item 1 is a list, which is never equal to an attribute"),
    (under("$in", list(range(10_001))), "x.$in has 10,001 items, the limit is 10,000"),
    (under("$gt", None), "x.$gt compares with a number or a text, not with null"),
    (under("$gte", [18]), "x.$gte compares with a number or a text, not with a list"),
    (under("$vgt", True), 'x.$vgt compares with a version such as "1.4.0", not with true or'),
    (under("$eq", [1]), "to compare whole lists or objects write the value without an operator"),
    (under("$exists", 1), "x.$exists takes true or false, not a number"),
    (under("$type", "text"), "x.$type takes one of string, number, boolean, array, object, null"),
    (under("$size", "3"), "x.$size takes a number or such as"),
    (under("$elemMatch", "a"), "x.$elemMatch takes a condition on an item of the list"),
    (under("$elemMatch", {"$or": []}), "is read differently by different clients"),
    (under("$elemMatch", {"a": {"$in": 1}}), "x.$elemMatch.a.$in takes a list"),
    (under("$all", "a"), "x.$all takes a list"),
    (under("$all", ["a", {"$gtt": 1}]), "x.$all[1].$gtt is no operator; near are $gt"),
    (under("$inGroup", "gone"), 'x.$inGroup names the saved group "gone", which does not exist'),
    (under("$notInGroup", ["testers"]), "takes the name of a saved group, not a list"),
]
LIMITS = [
    (nested(21), "is nested more than 20 levels deep"),
    ({"$or": [{"a": 1}] * 600}, "The condition has more than 1,000 parts"),
    ({"x": float("nan")}, "x is nan, which JSON does not have"),
    (under("$in", [1, float("inf")]), "x.$in[1] is inf, which JSON does not have"),
    ({"x": datetime.date(2026, 1, 1)}, "x is a date; write it as a text or a number"),
    (under("$in", [b"en"]), "x.$in[0] is a bytes; write it"),
    ({"x": {1: 2}}, "x has the name 1, which is no text"),
    ({"\ud800": {"$x": "\ud800"}}, "?.$x is no operator"),
]


@pytest.mark.parametrize(("condition", "message"), [*OPERATORS, *OPERANDS, *LIMITS])
def test_condition_is_refused_with_the_place_and_what_would_be_right(
    condition: Any, message: str
) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(condition, groups={"testers"})
    assert message in str(caught.value)
    json.dumps(str(caught.value), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        pytest.param(5, "takes a regular expression", id="a number"),
        pytest.param("(?=a)b", "it looks around ((?=...)", id="ahead"),
        pytest.param("(?<!a)b", "it looks around ((?<!...)", id="behind"),
        pytest.param(r"(a)\1", r"it refers back to a group (\1)", id="back reference"),
        pytest.param(r"(?<n>a)\k<n>", r"it refers back to a group (\k)", id="by name"),
        pytest.param("(?i)a", "$regexi ignores case", id="flags"),
        pytest.param("(?P<n>a)", "is not known to every client", id="Python's named group"),
        pytest.param("(a", "(missing ): (a)", id="an open group"),
        pytest.param("a**", "bad repetition operator", id="repeats of a repeat"),
        pytest.param("a\\", "trailing", id="a backslash at the end"),
        pytest.param(".{0,500}x", "counted repeats such as {0,500}", id="too large"),
        pytest.param("(a{0,99}){0,99}", "can be run safely", id="far too large"),
        pytest.param("[]a", "it has empty brackets", id="empty brackets"),
        pytest.param("[^]", "it has empty brackets", id="empty brackets of all"),
        pytest.param(r"\Aen\Z", "use ^ for the start, $ for the end", id="other anchors"),
        pytest.param(r"\pL", r"\p has no meaning that all clients share", id="a class"),
        pytest.param(r"\x4", r"\x has no meaning that all clients share", id="half a code"),
        pytest.param("\ud800", "half of a surrogate pair", id="a surrogate"),
    ],
)
def test_expression_is_refused_where_it_is_not_safe_or_not_the_same_for_all(
    expression: Any, message: str
) -> None:
    for name in ("$regex", "$regexi", "$notRegex", "$notRegexi"):
        with pytest.raises(ConditionError) as caught:
            compile_condition({"x": {name: expression}})
        told = str(caught.value)
        assert told.startswith(f"x.{name} ")
        assert message in told
        told.encode()


@pytest.mark.parametrize(
    "condition",
    [
        pytest.param(nested(20), id="20 levels"),
        pytest.param({"$or": [{"a": 1}] * 498}, id="1,000 parts"),
        pytest.param(under("$in", list(range(10_000))), id="10,000 items"),
        pytest.param(under("$alli", ["a"] * 10_000), id="10,000 items of $alli"),
        pytest.param(under("$inGroup", "any"), id="groups unknown"),
        pytest.param({"x": ["a", {"b": [None]}]}, id="a literal"),
    ],
)
def test_condition_is_taken_up_to_the_limits(condition: dict[str, Any]) -> None:
    compile_condition(condition)


# What JavaScript says of each, under Node 20.
@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        (r"^\S+$", "a\u00a0b", False),
        (r"a\sb", "a\u00a0b", True),
        (r"a[\s,]b", "a\u2028b", True),
        (r"^[^\s]+$", "a\ufeffb", False),
        (r"^[\S ]+$", "a b", True),
        ("^.$", "\u2028", False),
        ("^a$", "a\n", False),
        (r"^\d$", "\u0663", False),
        (r"^\w$", "é", False),
        (r"^\u00e9\x41$", "éA", True),
        (r"[\b]", "\b", True),
        (r"\bon\b", "turn on now", True),
        ("[[:alpha:]]", ":]", True),
        ("[[:alpha:]]", "b", False),
        (r"a\[\]b", "a[]b", True),
        ("a{,2}", "a{,2}", True),
        (r"^https?:\/\/x/y", "https://x/y", True),
        (r"\0", "\0", True),
        (r"\^a\$", "x^a$y", True),
        (r"\$$", "5$", True),
        ("", "", True),
        ("^", "a", True),
    ],
)
def test_expression_finds_what_javascript_finds(expression: str, text: str, found: bool) -> None:
    assert compile_condition({"x": {"$regex": expression}})({"x": text}, {}) is found
    excluded = compile_condition({"x": {"$notRegex": expression}})
    assert excluded({"x": text}, {}) is not found
