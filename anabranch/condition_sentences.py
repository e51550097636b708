"""How a value and an operator are put into words, for refusals and for the assignment trace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    return value is None or isinstance(value, (str, int, float, list, dict))


def shown(value: Any) -> str:
    """The value for a sentence: as JSON, or what kind it is where that would be long."""
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}..."
        return json.dumps(printable(text), ensure_ascii=False)
    if isinstance(value, (list, tuple)):
        return (
            f"[{_listed(value)}]" if all(map(_is_plain, value[:_MOST_ITEMS])) else _counted(value)
        )
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    # Python refuses to write out a whole number of thousands of digits.
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number beyond 2^64"
    return repr(value) if isinstance(value, (int, float)) else a(value)


def printable(text: str) -> str:
    """The text with a "?" for half a surrogate pair, which no response can carry."""
    return text.encode(errors="replace").decode()


def seen(name: str, value: Any) -> str:
    return f"{printable(name)} is {'missing' if value is None else shown(value)}"


def wanted(operator: str | None, operand: Any) -> str:
    """What an operator asks for; without an operator, equality."""
    if operator is None:
        return shown(operand)
    if operator == "$exists":
        return "any value" if operand else "no value"
    if operator == "$not":
        return f"not {_wanted_of_value(operand)}"
    if operator == "$size":
        return f"a list whose length is {_wanted_of_value(operand)}"
    if operator == "$elemMatch":
        return "a list with an item that meets $elemMatch"
    return _WANTED[operator].format(
        _listed(operand) if isinstance(operand, list) else shown(operand)
    )


def _wanted_of_value(operand: Any) -> str:
    if isinstance(operand, Mapping) and any(name.startswith("$") for name in operand):
        return " and ".join(wanted(name, one) for name, one in operand.items())
    return shown(operand)


def _listed(items: Sequence[Any]) -> str:
    named = ", ".join(map(shown, items[:_MOST_ITEMS]))
    return named if len(items) <= _MOST_ITEMS else f"{named} and {len(items) - _MOST_ITEMS:,} more"


def _counted(items: Sequence[Any]) -> str:
    return f"a list of {len(items):,} items"


def _is_plain(value: Any) -> bool:
    return not isinstance(value, (list, tuple, Mapping))
