"""Targeting conditions in GrowthBook's language, compiled once and bounded.

    speaks_english = compile_condition({"locale": {"$in": ["en", "en-GB"]}, "age": {"$gte": 18}})
    speaks_english({"locale": "en", "age": 30}, {})     # True

What can be wrong with a condition is said when it is compiled, so that running it never raises,
whatever the attributes hold. A run takes time in proportion to the attributes times the condition.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from anabranch.condition_limits import Measure, error_at, under
from anabranch.condition_operators import (
    OperandError,
    ValueTest,
    equal_to,
    existing,
    folded,
    folded_member_of,
    identical_to,
    in_group,
    is_scalar,
    list_of,
    matching,
    member_of,
    negated,
    not_matching,
    of_kind,
    ordered,
    version_ordered,
)
from anabranch.condition_parts import Groups, Part, all_of, any_of, conjunction, none_of
from anabranch.condition_sentences import a, seen, wanted
from anabranch.condition_values import at_path, kind_of, number_of, path_of, text_of

_LOGIC: dict[str, Callable[[Sequence[Part]], Part]] = {
    "$and": all_of,
    "$or": any_of,
    "$nor": lambda parts: none_of("$nor", parts),
}
_LOGICAL = ("$and", "$or", "$nor", "$not")


class Condition:
    """A compiled condition: call it with attributes and the members of the saved groups."""

    __slots__ = ("_part", "_test")

    def __init__(self, part: Part) -> None:
        self._part = part
        self._test = part.test

    def __call__(self, attributes: Mapping[str, Any], groups: Groups) -> bool:
        return self._test(attributes, groups)

    def explain(self, attributes: Mapping[str, Any], groups: Groups) -> list[str]:
        """The parts that fail, as sentences; empty where the condition holds."""
        if self._test(attributes, groups):
            return []
        return self._part.failures(attributes, groups)


def compile_condition(
    condition: Mapping[str, Any], groups: Collection[str] | None = None
) -> Condition:
    """Raises ConditionError; names of saved groups are checked where `groups` is given."""
    Measure().take(condition, "", 1)
    return Condition(_Compiler(groups).condition(condition, ""))


class _Compiler:
    def __init__(self, groups: Collection[str] | None) -> None:
        self.makers: dict[str, Callable[[Any], ValueTest]] = {
            "$eq": identical_to,
            "$ne": lambda literal: negated(identical_to(literal)),
            **{f"${name}": ordered(name) for name in ("lt", "lte", "gt", "gte")},
            **{f"$v{one}": version_ordered(one) for one in ("eq", "ne", "lt", "lte", "gt", "gte")},
            "$in": member_of,
            "$nin": lambda literal: negated(member_of(literal)),
            "$ini": folded_member_of,
            "$nini": lambda literal: negated(folded_member_of(literal)),
            "$inGroup": in_group(groups),
            "$notInGroup": lambda group: negated(in_group(groups)(group)),
            "$regex": matching(ignore_case=False),
            "$regexi": matching(ignore_case=True),
            "$notRegex": not_matching(ignore_case=False),
            "$notRegexi": not_matching(ignore_case=True),
            "$exists": existing,
            "$type": of_kind,
        }
        # Those whose operand holds conditions, and so places of its own.
        self.nesting: dict[str, Callable[[Any, str], ValueTest]] = {
            "$not": lambda operand, place: negated(self.value(operand, place)),
            "$size": self.size,
            "$elemMatch": self.any_item,
            "$all": lambda operand, place: self.every(operand, place, ignore_case=False),
            "$alli": lambda operand, place: self.every(operand, place, ignore_case=True),
        }
        self.operators = [*self.makers, *self.nesting]

    def condition(self, condition: Any, place: str) -> Part:
        """A condition on something with attributes: all its entries hold."""
        if not isinstance(condition, Mapping):
            raise error_at(place, f'is {a(condition)}; a condition is such as {{"locale": "en"}}')
        parts = [self.entry(key, operand, under(place, key)) for key, operand in condition.items()]
        return parts[0] if len(parts) == 1 else all_of(parts)

    def entry(self, key: str, operand: Any, place: str) -> Part:
        if key in _LOGIC:
            if not isinstance(operand, list):
                raise error_at(place, f"takes a list of conditions, not {a(operand)}")
            parts = [self.condition(one, f"{place}[{i}]") for i, one in enumerate(operand)]
            return _LOGIC[key](parts)
        if key == "$not":
            return none_of(key, [self.condition(operand, place)])
        if key in ("$savedGroup", "$savedGroups"):
            raise error_at(
                place,
                'is not taken: name the attribute, as in {"player": {"$inGroup": "testers"}}',
            )
        if key in self.operators:
            raise error_at(
                place, f'stands alone; it belongs under an attribute: {{"age": {{"{key}": ...}}}}'
            )
        # $groups is an attribute: it is GrowthBook's own name for the groups a user is in.
        if key.startswith("$") and key != "$groups":
            raise error_at(place, self.unknown(key, _LOGICAL))
        return self.field(key, operand, place)

    def field(self, key: str, operand: Any, place: str) -> Part:
        path = path_of(key)
        if "" in path:
            raise error_at(place, "has an empty name; an attribute is named as in device.os")
        tests = self.value_tests(operand, place)
        test = conjunction([test for _, _, test in tests])

        def failures(attributes: Any, groups: Groups) -> list[str]:
            value = at_path(attributes, path)
            return [
                f"{seen(key, value)}, wanted {wanted(operator, operand)}"
                for operator, operand, one in tests
                if not one(value, groups)
            ]

        if len(path) > 1:
            return Part((key,), lambda all_, groups: test(at_path(all_, path), groups), failures)

        def read_and_test(attributes: Any, groups: Groups) -> bool:
            if attributes.__class__ is dict:
                return test(attributes.get(key), groups)
            return test(at_path(attributes, path), groups)

        return Part((key,), read_and_test, failures)

    def value(self, operand: Any, place: str) -> ValueTest:
        return conjunction([test for _, _, test in self.value_tests(operand, place)])

    def value_tests(self, operand: Any, place: str) -> list[tuple[str | None, Any, ValueTest]]:
        """A test for each operator of the operand, or one of equality where it has none."""
        names = list(operand) if isinstance(operand, Mapping) else []
        operators = [name for name in names if name.startswith("$")]
        if not operators:
            return [(None, operand, equal_to(operand))]
        if plain := [name for name in names if not name.startswith("$")]:
            raise error_at(
                place,
                f"mixes the operator {operators[0]} with the name {plain[0]}: give "
                "operators alone, or write the path with a dot",
            )
        return [(name, operand[name], self.operator(name, operand[name], place)) for name in names]

    def operator(self, name: str, operand: Any, place: str) -> ValueTest:
        place = under(place, name)
        if name in self.nesting:
            return self.nesting[name](operand, place)
        if name in _LOGICAL:
            raise error_at(
                place, f'stands under an attribute; it goes around them: {{"{name}": [...]}}'
            )
        if name not in self.makers:
            raise error_at(place, self.unknown(name, ()))
        try:
            return self.makers[name](operand)
        except OperandError as error:
            raise error_at(place, error) from None

    def unknown(self, name: str, more: Collection[str]) -> str:
        known = [*self.operators, *more]
        near = difflib.get_close_matches(name, known, cutoff=0.6)
        return f"is no operator; {'near' if near else 'known'} are {', '.join(near or known)}"

    def size(self, operand: Any, place: str) -> ValueTest:
        if isinstance(operand, bool) or not isinstance(operand, (int, float, Mapping)):
            raise error_at(place, f'takes a number or such as {{"$gt": 2}}, not {a(operand)}')
        test = self.value(operand, place)
        return lambda value, groups: isinstance(value, (list, tuple)) and test(len(value), groups)

    def any_item(self, operand: Any, place: str) -> ValueTest:
        if not isinstance(operand, Mapping):
            raise error_at(place, f"takes a condition on an item of the list, not {a(operand)}")
        if operand and all(name.startswith("$") for name in operand):
            for name in ("$and", "$or", "$nor"):
                if name in operand:
                    # JavaScript's SDK finds nothing then, Python's tests the fields of the item.
                    raise error_at(
                        under(place, name),
                        "is read differently by different clients where it stands alone in "
                        "$elemMatch: put it around the attribute, an $elemMatch in each part",
                    )
            test = self.value(operand, place)
        else:
            test = self.condition(operand, place).test
        return lambda value, groups: (
            isinstance(value, (list, tuple))
            and any(item is not None and test(item, groups) for item in value)
        )

    def every(self, operand: Any, place: str, *, ignore_case: bool) -> ValueTest:
        """`$all`: each literal equals, or each condition holds for, some item of the list."""
        try:
            items = list_of(operand)
        except OperandError as error:
            raise error_at(place, error) from None
        # As sets: ten thousand literals against a long list must not be a product.
        fold = folded if ignore_case else (lambda text: text)
        texts = frozenset(fold(item) for item in items if isinstance(item, str))
        numbers = frozenset(item for item in items if kind_of(item) == "number")
        tests = [equal_to(one) for one in (None, True, False) if any(item is one for item in items)]
        tests += [
            self.value(item, f"{place}[{index}]")
            for index, item in enumerate(items)
            if not is_scalar(item)
        ]

        def test(value: Any, groups: Groups) -> bool:
            if not isinstance(value, (list, tuple)):
                return False
            if texts and not texts.issubset([fold(text_of(item)) for item in value]):
                return False
            if numbers and not numbers.issubset([number_of(item) for item in value]):
                return False
            return all(any(one(item, groups) for item in value) for one in tests)

        return test
