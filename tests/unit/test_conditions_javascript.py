# ruff: noqa: E501 - an answer stays on one line, as it was recorded
"""Which values each operator holds for, as the JavaScript SDK of GrowthBook 1.8.0 answered.

The lists were written by that package under Node, from the conditions and the values here; they
are what a condition means where another client would answer otherwise.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from anabranch.conditions import compile_condition

GROUPS: dict[str, frozenset[str | int | float]] = {"testers": frozenset({"en", 5})}

VALUES = json.loads(
    '[null, true, false, 0, 1, 5, 5.5, 1e21, "", "5", " 5 ", "0x5", "5e0", "en", "EN", "null", "1e+21", "\\ufb01", '
    '"\\ud83d\\ude00", [], [5], ["en", "fr"], ["EN", null], [[5]], {}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]'
)

VERSIONS = json.loads(
    '[null, true, 0, 2, 1.2, "", "0", "v1.2.3", "1.2.3", "1.2.3-rc.1", "1.2.3+build.7", '
    '"1.10.0", "1.9.0", "1.2", "2", "1.2.3.4", [], {}]'
)

ANSWERS = [
    ('"en"', "holds for", '["en"]'),
    ('"5"', "holds for", '[5, "5", [5], [[5]]]'),
    ('"null"', "holds for", '[null, "null"]'),
    ('"true"', "holds for", "[true]"),
    ('"1e+21"', "holds for", '[1e+21, "1e+21"]'),
    ('"en,fr"', "holds for", '[["en", "fr"]]'),
    ('""', "holds for", '["", []]'),
    ('"[object Object]"', "holds for", '[{}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]'),
    ("0", "holds for", '[null, false, 0, "", []]'),
    ("5", "holds for", '[5, "5", " 5 ", "0x5", "5e0", [5], [[5]]]'),
    ("1", "holds for", "[true, 1]"),
    ("1e+21", "holds for", '[1e+21, "1e+21"]'),
    ("true", "fails for", '[null, false, 0, ""]'),
    ("false", "holds for", '[false, 0, ""]'),
    ("null", "holds for", "[null]"),
    ("[]", "holds for", "[[]]"),
    ("[5]", "holds for", "[[5]]"),
    ('["en", "fr"]', "holds for", '[["en", "fr"]]'),
    ("[null]", "holds for", "[]"),
    ("{}", "holds for", "[{}]"),
    ('{"a": 1, "b": 2}', "holds for", '[{"a": 1, "b": 2}]'),
    ('{"$eq": 5}', "holds for", "[5]"),
    ('{"$eq": "5"}', "holds for", '["5"]'),
    ('{"$eq": true}', "holds for", "[true]"),
    ('{"$eq": 1}', "holds for", "[1]"),
    ('{"$eq": null}', "holds for", "[null]"),
    ('{"$ne": 5}', "fails for", "[5]"),
    ('{"$ne": null}', "fails for", "[null]"),
    ('{"$ne": false}', "fails for", "[false]"),
    ('{"$lt": 5}', "holds for", '[null, true, false, 0, 1, "", []]'),
    (
        '{"$lte": 5}',
        "fails for",
        '[5.5, 1e+21, "en", "EN", "null", "1e+21", "\\ufb01", "\\ud83d\\ude00", ["en", "fr"], ["EN", null], {}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]',
    ),
    (
        '{"$gt": 0}',
        "holds for",
        '[true, 1, 5, 5.5, 1e+21, "5", " 5 ", "0x5", "5e0", "1e+21", [5], [[5]]]',
    ),
    ('{"$gte": 5}', "holds for", '[5, 5.5, 1e+21, "5", " 5 ", "0x5", "5e0", "1e+21", [5], [[5]]]'),
    ('{"$lt": "5"}', "holds for", '[null, true, false, 0, 1, "", " 5 ", "0x5", "1e+21", []]'),
    ('{"$gt": "en"}', "holds for", '["null", "\\ufb01", "\\ud83d\\ude00", ["en", "fr"]]'),
    (
        '{"$gte": "EN"}',
        "holds for",
        '["en", "EN", "null", "\\ufb01", "\\ud83d\\ude00", ["en", "fr"], ["EN", null], {}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]',
    ),
    ('{"$lte": "\\ufb01"}', "fails for", "[null, true, false, 0, 1, 5, 5.5, 1e+21]"),
    ('{"$gt": "\\ud83d\\ude00"}', "holds for", '["\\ufb01"]'),
    (
        '{"$gte": 0, "$lt": 5.5}',
        "fails for",
        '[5.5, 1e+21, "en", "EN", "null", "1e+21", "\\ufb01", "\\ud83d\\ude00", ["en", "fr"], ["EN", null], {}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]',
    ),
    ('{"$in": [5, "en"]}', "holds for", '[5, "en", [5], ["en", "fr"]]'),
    ('{"$in": [1, 0]}', "holds for", "[0, 1]"),
    ('{"$in": [true, null]}', "holds for", '[null, true, ["EN", null]]'),
    ('{"$in": []}', "holds for", "[]"),
    ('{"$nin": [5, "en"]}', "fails for", '[5, "en", [5], ["en", "fr"]]'),
    ('{"$nin": [false, "5", null]}', "fails for", '[null, false, "5", ["EN", null]]'),
    ('{"$ini": ["En", 5]}', "holds for", '[5, "en", "EN", [5], ["en", "fr"], ["EN", null]]'),
    ('{"$nini": ["En", 5]}', "fails for", '[5, "en", "EN", [5], ["en", "fr"], ["EN", null]]'),
    ('{"$all": ["en"]}', "holds for", '[["en", "fr"]]'),
    ('{"$all": ["5"]}', "holds for", "[[5], [[5]]]"),
    ('{"$all": [5]}', "holds for", "[[5], [[5]]]"),
    ('{"$all": []}', "holds for", '[[], [5], ["en", "fr"], ["EN", null], [[5]]]'),
    ('{"$all": ["en", {"$regex": "^f"}]}', "holds for", '[["en", "fr"]]'),
    ('{"$all": [null]}', "holds for", '[["EN", null]]'),
    ('{"$alli": ["en"]}', "holds for", '[["en", "fr"], ["EN", null]]'),
    ('{"$alli": ["Null", "En"]}', "holds for", '[["EN", null]]'),
    ('{"$regex": "^e"}', "holds for", '["en", ["en", "fr"]]'),
    ('{"$regex": "5$"}', "holds for", '[5, 5.5, "5", "0x5", [5], [[5]]]'),
    ('{"$regex": "^(null|true)$"}', "holds for", '[null, true, "null"]'),
    ('{"$regex": "\\\\s5"}', "holds for", '[" 5 "]'),
    ('{"$regex": ","}', "holds for", '[["en", "fr"], ["EN", null]]'),
    ('{"$regexi": "^E"}', "holds for", '["en", "EN", ["en", "fr"], ["EN", null]]'),
    ('{"$regexi": "object"}', "holds for", '[{}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]'),
    ('{"$exists": true}', "fails for", "[null]"),
    ('{"$exists": false}', "holds for", "[null]"),
    ('{"$elemMatch": {"$eq": 5}}', "holds for", "[[5]]"),
    ('{"$elemMatch": {"$in": ["en", "de"]}}', "holds for", '[["en", "fr"]]'),
    ('{"$elemMatch": {"0": 5}}', "holds for", "[[[5]]]"),
    ('{"$elemMatch": {}}', "holds for", '[[5], ["en", "fr"], ["EN", null], [[5]]]'),
    ('{"$size": 1}', "holds for", "[[5], [[5]]]"),
    ('{"$size": {"$gt": 1}}', "holds for", '[["en", "fr"], ["EN", null]]'),
    ('{"$size": 0}', "holds for", "[[]]"),
    (
        '{"$type": "string"}',
        "holds for",
        '["", "5", " 5 ", "0x5", "5e0", "en", "EN", "null", "1e+21", "\\ufb01", "\\ud83d\\ude00"]',
    ),
    ('{"$type": "number"}', "holds for", "[0, 1, 5, 5.5, 1e+21]"),
    ('{"$type": "boolean"}', "holds for", "[true, false]"),
    ('{"$type": "array"}', "holds for", '[[], [5], ["en", "fr"], ["EN", null], [[5]]]'),
    ('{"$type": "object"}', "holds for", '[{}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]'),
    ('{"$type": "null"}', "holds for", "[null]"),
    ('{"$not": 5}', "fails for", '[5, "5", " 5 ", "0x5", "5e0", [5], [[5]]]'),
    (
        '{"$not": {"$gt": 0}}',
        "fails for",
        '[true, 1, 5, 5.5, 1e+21, "5", " 5 ", "0x5", "5e0", "1e+21", [5], [[5]]]',
    ),
    ('{"$not": {"$in": ["en"]}}', "fails for", '["en", ["en", "fr"]]'),
    (
        '{"$not": {"$exists": true, "$type": "string"}}',
        "fails for",
        '["", "5", " 5 ", "0x5", "5e0", "en", "EN", "null", "1e+21", "\\ufb01", "\\ud83d\\ude00"]',
    ),
    ('{"$inGroup": "testers"}', "holds for", '[5, "en", [5], ["en", "fr"]]'),
    ('{"$notInGroup": "testers"}', "fails for", '[5, "en", [5], ["en", "fr"]]'),
    ('{"$inGroup": "nobody"}', "holds for", "[]"),
    ('{"$notInGroup": "nobody"}', "fails for", "[]"),
]

VERSION_ANSWERS = [
    ('{"$veq": "1.2.3"}', "holds for", '["v1.2.3", "1.2.3", "1.2.3+build.7"]'),
    ('{"$veq": "0"}', "holds for", '[null, true, 0, "", "0", [], {}]'),
    ('{"$vne": "1.2.3"}', "fails for", '["v1.2.3", "1.2.3", "1.2.3+build.7"]'),
    (
        '{"$vlt": "1.2.3"}',
        "fails for",
        '[2, "v1.2.3", "1.2.3", "1.2.3+build.7", "1.10.0", "1.9.0", "2"]',
    ),
    ('{"$vlte": "1.2.3"}', "fails for", '[2, "1.10.0", "1.9.0", "2"]'),
    ('{"$vgt": "1.9.0"}', "holds for", '[2, "1.10.0", "2"]'),
    (
        '{"$vgte": "1.2.3-rc.1"}',
        "holds for",
        '[2, "v1.2.3", "1.2.3", "1.2.3-rc.1", "1.2.3+build.7", "1.10.0", "1.9.0", "2"]',
    ),
    ('{"$vgte": 2}', "holds for", '[2, "2"]'),
    ('{"$vlt": "1.10.0"}', "fails for", '[2, "1.10.0", "2"]'),
]


def answered(condition: str, values: list[Any], answer: str) -> str:
    """JSON, since in Python a list with True equals one with 1."""
    test = compile_condition({"x": json.loads(condition)})
    wanted = answer == "holds for"
    return json.dumps([value for value in values if test({"x": value}, GROUPS) is wanted])


@pytest.mark.parametrize(("condition", "answer", "values"), ANSWERS)
def test_condition_holds_for_the_values_javascript_takes(
    condition: str, answer: str, values: str
) -> None:
    assert answered(condition, VALUES, answer) == values


@pytest.mark.parametrize(("condition", "answer", "versions"), VERSION_ANSWERS)
def test_version_condition_holds_for_the_versions_javascript_takes(
    condition: str, answer: str, versions: str
) -> None:
    assert answered(condition, VERSIONS, answer) == versions


@pytest.mark.parametrize(("condition", "answer", "values"), ANSWERS)
def test_missing_attribute_counts_as_null(condition: str, answer: str, values: str) -> None:
    null_holds = (None in json.loads(values)) is (answer == "holds for")
    assert compile_condition({"x": json.loads(condition)})({}, GROUPS) is null_holds
