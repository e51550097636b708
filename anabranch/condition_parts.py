"""Conditions put together: a test, and why it failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from anabranch.condition_operators import Group, ValueTest, negated
from anabranch.condition_sentences import seen
from anabranch.condition_values import at_path, path_of

Groups = Mapping[str, Group]


class Part(NamedTuple):
    # The attributes it reads.
    names: tuple[str, ...]
    test: ValueTest
    # Why the test fails, in sentences; asked only once it has.
    failures: Callable[[Any, Groups], list[str]]


def conjunction(tests: Sequence[ValueTest]) -> ValueTest:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value, groups: first(value, groups) and second(value, groups)

    def test(value: Any, groups: Groups) -> bool:
        for one in tests:  # noqa: SIM110 - twice as fast as all() of a generator
            if not one(value, groups):
                return False
        return True

    return test


def all_of(parts: Sequence[Part]) -> Part:
    def failures(attributes: Any, groups: Groups) -> list[str]:
        return [
            sentence
            for part in parts
            if not part.test(attributes, groups)
            for sentence in part.failures(attributes, groups)
        ]

    return Part(_names(parts), conjunction([part.test for part in parts]), failures)


def any_of(parts: Sequence[Part]) -> Part:
    """One of the parts holds; without any, everything does, as in the SDKs."""

    def test(attributes: Any, groups: Groups) -> bool:
        # A loop: twice as fast as any() of a generator.
        for part in tests:
            if part(attributes, groups):
                return True
        return not tests

    def failures(attributes: Any, groups: Groups) -> list[str]:
        reasons = ["; ".join(part.failures(attributes, groups)) for part in parts]
        return [f"none of {len(parts)} alternatives holds: {' / '.join(reasons)}"]

    tests = [part.test for part in parts]
    return Part(_names(parts), test, failures)


def none_of(operator: str, parts: Sequence[Part]) -> Part:
    def failures(attributes: Any, groups: Groups) -> list[str]:
        names = next((part.names for part in parts if part.test(attributes, groups)), ())
        facts = ", ".join(seen(name, at_path(attributes, path_of(name))) for name in names)
        return [f"{operator} excludes {facts or 'everyone'}"]

    return Part(_names(parts), negated(any_of(parts).test), failures)


def _names(parts: Sequence[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in part.names))
