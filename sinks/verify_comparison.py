"""How stored rows are held against rows that are made again: the SQL of it, and what it says.

While events come in, an aggregate cannot be cut at an offset: it holds every finished batch, and
perhaps parts of those under way. But it holds no less than the finished ones, whose rows in
`batches` were read before, and no more than all raw rows, which go in first. So each key is made
again twice, of the *settled* raw rows (those of finished batches) and of *all* of them. It has to
equal one of the two or, with an `n` strictly between theirs, keep to the bounds of what only rises
or only falls. Where nothing moves, the two are the same and the comparison is exact.
"""

# ruff: noqa: S608  # names are ours, values are numbers or quoted

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

FOUND, SETTLED, MOVING = 0, 1, 2
"""The column `side`: what is stored, made of settled raw rows, made of those under way."""

LISTED_AT_ONCE = 20


class Measure(NamedTuple):
    """One value of a key. `merge` adds parts up; `same` compares {0} with {1}, in SQL."""

    name: str
    merge: str = "sum"
    same: str = "{0} = {1}"
    bound: Literal["rises", "falls", "none"] = "rises"
    """What more contributions can do to it."""


class Subject(NamedTuple):
    """A table, as its rows are once they are merged."""

    table: str
    keys: tuple[str, ...]
    measures: tuple[Measure, ...]
    """The first is `n`, which rises with each contribution."""
    also: tuple[str, ...] = ()
    """Columns that `same` asks for: the least of both sides."""

    @property
    def columns(self) -> str:
        return ", ".join((*self.keys, *(measure.name for measure in self.measures), *self.also))


class Odd(NamedTuple):
    """A key whose values are not what raw rows make of it; values as ClickHouse writes them."""

    keys: tuple[str, ...]
    found: tuple[str, ...]
    settled: tuple[str, ...]
    expected: tuple[str, ...]
    wrong: tuple[bool, ...]
    """By measure."""
    sides: tuple[bool, bool]
    """Whether it is stored, and whether it should be."""


class Seen(NamedTuple):
    keys: int
    moving: int
    """Keys that were held to bounds alone."""
    odd: int
    odd_keys: tuple[str, ...]
    """What their first columns are."""
    examples: tuple[Odd, ...]
    """Some of them."""


def comparison(
    subject: Subject, found: str, expected: str, *, only: str = "1", excused: str = "0"
) -> str:
    """One row, for `seen`. Both queries give the subject's columns, `expected` a `side` as well.

    `only` is a condition on keys; `excused` is one on a key's values, under which none is odd.
    """
    keys = ", ".join(subject.keys)
    measures = subject.measures
    # The order matters: the engine takes stock of tables in the order in which they are named, and
    # the raw rows have to be looked at last.
    both = (
        f"SELECT {subject.columns}, {FOUND} AS side FROM ({found}) "
        f"UNION ALL SELECT {subject.columns}, side FROM ({expected})"
    )
    made = [f"countIf(side = {FOUND}) AS is_stored", f"countIf(side != {FOUND}) AS is_expected"]
    for measure in measures:
        merge, name = measure.merge, measure.name
        made.append(f"{merge}If({name}, side = {FOUND}) AS found_{name}")
        made.append(f"{merge}If({name}, side = {SETTLED}) AS settled_{name}")
        made.append(f"{merge}If({name}, side != {FOUND}) AS all_{name}")
    made += [f"min({name}) AS {name}" for name in subject.also]
    texts = ", ".join(
        f"[{', '.join(f'toString({prefix}{name})' for name in names)}]"
        for prefix, names in (
            ("", subject.keys),
            ("found_", [measure.name for measure in measures]),
            ("settled_", [measure.name for measure in measures]),
            ("all_", [measure.name for measure in measures]),
        )
    )
    wrong = ", ".join(f"NOT ({_same(measure, 'all')})" for measure in measures)
    example = f"({texts}, [{wrong}], [is_stored > 0, is_expected > 0])"
    return (
        "SELECT count(), countIf(moving), countIf(odd), "
        f"groupUniqArrayIf(toString({subject.keys[0]}), odd), "
        f"groupArrayIf({LISTED_AT_ONCE})({example}, odd) "
        f"FROM (SELECT *, NOT whole AND {_between(measures)} AS moving, "
        f"NOT whole AND NOT moving AND NOT ({excused}) "
        f"AND NOT {_equal(measures, 'settled')} AS odd "
        f"FROM (SELECT *, {_equal(measures, 'all')} AS whole "
        f"FROM (SELECT {keys}, {', '.join(made)} FROM ({both}) WHERE {only} GROUP BY {keys})))"
    )


def seen(row: Sequence[Any]) -> Seen:
    keys, moving, odd, first_keys, examples = row
    found = sorted(Odd._make([*map(tuple, one[:5]), *one[5:]]) for one in examples)
    return Seen(int(keys), int(moving), int(odd), tuple(sorted(first_keys)), tuple(found))


def _same(measure: Measure, side: str) -> str:
    return measure.same.format(f"found_{measure.name}", f"{side}_{measure.name}")


def _equal(measures: Sequence[Measure], side: str) -> str:
    return "(" + " AND ".join(_same(measure, side) for measure in measures) + ")"


def _between(measures: Sequence[Measure]) -> str:
    conditions = ["settled_n < found_n", "found_n < all_n"]
    for measure in measures[1:]:
        found, settled, every = (f"{side}_{measure.name}" for side in ("found", "settled", "all"))
        if measure.bound == "rises":
            conditions += [f"{found} <= {every}", f"(settled_n = 0 OR {settled} <= {found})"]
        elif measure.bound == "falls":
            conditions += [f"{found} >= {every}", f"(settled_n = 0 OR {settled} >= {found})"]
    return "(" + " AND ".join(conditions) + ")"
