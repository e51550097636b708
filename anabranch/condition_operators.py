"""What each operator asks of a value, compiled from its operand.

A test takes the value and the saved groups and answers yes or no; it never raises. A maker raises
OperandError with what is wrong with the operand; the caller knows the place.

Where the GrowthBook SDKs differ (JavaScript 1.8, Python 4.0), JavaScript's answer is given: it
compares a text with a number, and null with 0, as JavaScript does, where Python answers no. Only
`$notRegex` and `$notRegexi` are Python's, since JavaScript lacks them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from anabranch.condition_expressions import compile_expression
from anabranch.condition_sentences import a, shown
from anabranch.condition_values import (
    KINDS,
    comes_before,
    kind_of,
    number_of,
    same_json,
    text_of,
    truth_of,
    version_of,
)

Group = frozenset[str | int | float]
ValueTest = Callable[[Any, Mapping[str, Group]], bool]
MOST_ITEMS = 10_000
_NOBODY: Group = frozenset()


class OperandError(ValueError):
    """What is wrong with an operand and what would be right, to follow the place of it."""


def negated(test: ValueTest) -> ValueTest:
    return lambda value, groups: not test(value, groups)


def equal_to(literal: Any) -> ValueTest:
    """Equality without an operator: the value is first turned into the kind of the literal."""
    if literal is None:
        return lambda value, groups: value is None
    if isinstance(literal, str):
        return lambda value, groups: (
            value == literal if value.__class__ is str else text_of(value) == literal
        )
    if isinstance(literal, bool):
        return lambda value, groups: value is not None and truth_of(value) is literal
    if isinstance(literal, (int, float)):
        return lambda value, groups: (
            value == literal if value.__class__ is int else number_of(value) == literal
        )
    return lambda value, groups: same_json(literal, value)


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def identical_to(literal: Any) -> ValueTest:
    """`$eq`: the same kind and value; two lists or objects are never identical in JavaScript."""
    if not is_scalar(literal):
        raise OperandError(
            f"compares with a text, a number, true, false or null, not with {a(literal)}; "
            "to compare whole lists or objects write the value without an operator"
        )
    if literal is None or isinstance(literal, bool):
        return lambda value, groups: value is literal
    if isinstance(literal, str):
        return lambda value, groups: isinstance(value, str) and value == literal
    return lambda value, groups: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and value == literal
    )


def ordered(operator: str) -> Callable[[Any], ValueTest]:
    """`$lt` and so on: two texts by their characters, all else as numbers."""

    def make(literal: Any) -> ValueTest:
        if isinstance(literal, bool) or not isinstance(literal, (str, int, float)):
            raise OperandError(f"compares with a number or a text, not with {a(literal)}")
        number = number_of(literal)
        texts, numbers = _TEXT_ORDER[operator], _NUMBER_ORDER[operator]

        def test(value: Any, groups: Mapping[str, Group]) -> bool:
            if literal.__class__ is str and not (value is None or isinstance(value, (int, float))):
                return texts(text_of(value), literal)
            return numbers(value if value.__class__ is int else number_of(value), number)

        return test

    return make


def version_ordered(operator: str) -> Callable[[Any], ValueTest]:
    compare = _TEXT_ORDER[operator]

    def make(literal: Any) -> ValueTest:
        if kind_of(literal) not in ("string", "number"):
            raise OperandError(f'compares with a version such as "1.4.0", not with {a(literal)}')
        version = version_of(literal)
        return lambda value, groups: compare(version_of(value), version)

    return make


_NUMBER_ORDER: dict[str, Callable[[float, float], bool]] = {
    "lt": lambda one, other: one < other,
    "lte": lambda one, other: one <= other,
    "gt": lambda one, other: one > other,
    "gte": lambda one, other: one >= other,
}
_TEXT_ORDER: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda one, other: one == other,
    "ne": lambda one, other: one != other,
    "lt": comes_before,
    "lte": lambda one, other: not comes_before(other, one),
    "gt": lambda one, other: comes_before(other, one),
    "gte": lambda one, other: not comes_before(one, other),
}


def member_of(literal: Any) -> ValueTest:
    """`$in`: the value, or any item where it is a list, is identical to one of the literals."""
    items = scalars(literal)
    # Apart, since Python's True is a 1.
    booleans = [item for item in items if isinstance(item, bool)]
    others = frozenset(item for item in items if not isinstance(item, bool))

    def one(value: Any) -> bool:
        if isinstance(value, bool):
            return value in booleans
        return is_scalar(value) and value in others

    def test(value: Any, groups: Mapping[str, Group]) -> bool:
        if value.__class__ is str:
            return value in others
        return any(map(one, value)) if isinstance(value, (list, tuple)) else one(value)

    return test


def folded_member_of(literal: Any) -> ValueTest:
    test = member_of([folded(item) for item in scalars(literal)])

    def folded_test(value: Any, groups: Mapping[str, Group]) -> bool:
        if isinstance(value, (list, tuple)):
            return test([folded(item) for item in value], groups)
        return test(folded(value), groups)

    return folded_test


def folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def scalars(literal: Any) -> list[Any]:
    items = list_of(literal)
    for index, item in enumerate(items):
        if not is_scalar(item):
            raise OperandError(
                f"takes texts, numbers, true, false and null; item {index} is {a(item)}, "
                "which is never equal to an attribute"
            )
    return items


def list_of(literal: Any) -> list[Any]:
    if not isinstance(literal, list):
        raise OperandError(f'takes a list such as ["en", "fr"], not {a(literal)}')
    if len(literal) > MOST_ITEMS:
        raise OperandError(
            f"has {len(literal):,} items, the limit is {MOST_ITEMS:,}: make them a saved group"
        )
    return literal


def in_group(known: Collection[str] | None) -> Callable[[Any], ValueTest]:
    """`$inGroup`; a group that is gone when the test runs has nobody in it."""

    def make(group: Any) -> ValueTest:
        if not isinstance(group, str):
            raise OperandError(f"takes the name of a saved group, not {a(group)}")
        if known is not None and group not in known:
            raise OperandError(f'names the saved group "{group}", which does not exist')

        def test(value: Any, groups: Mapping[str, Group]) -> bool:
            members = groups.get(group, _NOBODY)
            if isinstance(value, (list, tuple)):
                return any(_is_member(item, members) for item in value)
            return _is_member(value, members)

        return test

    return make


def _is_member(value: Any, members: Group) -> bool:
    return is_scalar(value) and not isinstance(value, bool) and value in members


def matching(*, ignore_case: bool) -> Callable[[Any], ValueTest]:
    """`$regex`; what is no text is matched as JavaScript writes it, a missing one as "null"."""

    def make(literal: Any) -> ValueTest:
        found = _expression(literal, ignore_case)
        return lambda value, groups: found(value if value.__class__ is str else text_of(value))

    return make


def not_matching(*, ignore_case: bool) -> Callable[[Any], ValueTest]:
    def make(literal: Any) -> ValueTest:
        found = _expression(literal, ignore_case)
        return lambda value, groups: not (isinstance(value, str) and found(value))

    return make


def _expression(literal: Any, ignore_case: bool) -> Callable[[str], bool]:
    if not isinstance(literal, str):
        raise OperandError(f'takes a regular expression such as "^en", not {a(literal)}')
    try:
        return compile_expression(literal, ignore_case=ignore_case)
    except ValueError as error:
        raise OperandError(f"cannot use {shown(literal)}: {error}") from error


def existing(literal: Any) -> ValueTest:
    if not isinstance(literal, bool):
        raise OperandError(f"takes true or false, not {a(literal)}")
    return lambda value, groups: (value is not None) is literal


def of_kind(literal: Any) -> ValueTest:
    if literal not in KINDS:
        raise OperandError(f"takes one of {', '.join(KINDS)}, not {shown(literal)}")
    return lambda value, groups: kind_of(value) == literal
