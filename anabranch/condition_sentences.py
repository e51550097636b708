"""How a value and an operator are put into words, for refusals and for the assignment trace."""

from __future__ import annotations

import json
from typing import Any

from anabranch.condition_values import kind_of

_ARTICLES = {
    "string": "a text",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_LONGEST_TEXT = 60
_MOST_ITEMS = 5
_WANTED = {
    "$eq": "exactly {}",
    "$ne": "anything but {}",
    "$lt": "less than {}",
    "$lte": "at most {}",
    "$gt": "more than {}",
    "$gte": "at least {}",
    "$in": "one of {}",
    "$nin": "none of {}",
    "$ini": "one of {} in any case",
    "$nini": "none of {} in any case",
    "$all": "a list with all of {}",
    "$alli": "a list with all of {} in any case",
    "$regex": "a match of {}",
    "$regexi": "a match of {} in any case",
    "$notRegex": "no match of {}",
    "$notRegexi": "no match of {} in any case",
    "$veq": "version {}",
    "$vne": "any version but {}",
    "$vlt": "a version before {}",
    "$vlte": "version {} or before",
    "$vgt": "a version after {}",
    "$vgte": "version {} or after",
    "$inGroup": "a member of the saved group {}",
    "$notInGroup": "no member of the saved group {}",
    "$type": "the type {}",
}


def a(value: Any) -> str:
    return _ARTICLES[kind_of(value)] if _is_json(value) else f"a {type(value).__name__}"


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, list, tuple, dict))


def shown(value: Any) -> str:
    """The value for a sentence: as JSON, or what kind it is where that would be long."""
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST_TEXT else f"{value[: _LONGEST_TEXT - 3]}..."
        return json.dumps(text, ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value):,} items" if value else "an empty list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    # Python refuses to write out a whole number of thousands of digits.
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number beyond 2^64"
    return repr(value) if isinstance(value, (int, float)) else a(value)


def wanted(operator: str | None, operand: Any) -> str:
    """What an operator asks for; without an operator, equality."""
    if operator is None:
        return shown(operand)
    if operator == "$exists":
        return "any value" if operand else "no value"
    if operator not in _WANTED:
        return f"what {operator} asks for"
    return _WANTED[operator].format(
        _listed(operand) if isinstance(operand, list) else shown(operand)
    )


def _listed(items: list[Any]) -> str:
    named = ", ".join(map(shown, items[:_MOST_ITEMS])) or "an empty list"
    return named if len(items) <= _MOST_ITEMS else f"{named} and {len(items) - _MOST_ITEMS:,} more"
