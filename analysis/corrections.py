"""What does a p-value mean when many were computed?

A family is a set of tests of which at most 5 % of the times even one should be a false alarm (Holm)
or of whose alarms at most 5 % should be false (Benjamini and Hochberg). The caller chooses what is
in one family; tests without a verdict are in none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np


class Question(NamedTuple):
    metric: str
    variation: str
    segment: str = ""
    """Empty for all units together."""


class Family(StrEnum):
    """Over what a family reaches; in everything else its tests are the same."""

    METRICS = "metrics"
    VARIATIONS = "variations"
    SEGMENTS = "segments"
    ALL = "all"


class Correction(StrEnum):
    HOLM = "holm"
    BENJAMINI_HOCHBERG = "benjamini_hochberg"
    NONE = "none"


def adjusted(
    p_values: Mapping[Question, float], family: Family, correction: Correction
) -> dict[Question, float]:
    """The adjusted p-value of each test: at most 0.05 where it is significant in its family."""
    families: dict[tuple[str, ...], list[Question]] = defaultdict(list)
    for test in p_values:
        families[_rest(test, family)].append(test)
    answer: dict[Question, float] = {}
    for tests in families.values():
        values = [p_values[test] for test in tests]
        answer.update(zip(tests, correct(values, correction), strict=True))
    return {test: answer[test] for test in p_values}


def correct(p_values: Sequence[float], correction: Correction) -> list[float]:
    """Of one family, in the order given."""
    if any(not 0 <= p_value <= 1 for p_value in p_values):
        raise ValueError("a p-value is between 0 and 1; leave out tests without a verdict")
    match correction:
        case Correction.HOLM:
            return holm(p_values)
        case Correction.BENJAMINI_HOCHBERG:
            return benjamini_hochberg(p_values)
        case Correction.NONE:
            return list(p_values)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm (1979), "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6.

    Holds for tests that depend on each other in any way.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    answer = np.empty_like(values)
    answer[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return [float(value) for value in answer]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg (1995), "Controlling the false discovery rate", JRSS B 57.

    Holds for independent tests and for those that rise and fall together.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")[::-1]
    scaled = values[order] * len(values) / np.arange(len(values), 0, -1)
    answer = np.empty_like(values)
    answer[order] = np.minimum(1, np.minimum.accumulate(scaled))
    return [float(value) for value in answer]


def _rest(test: Question, family: Family) -> tuple[str, ...]:
    match family:
        case Family.METRICS:
            return (test.variation, test.segment)
        case Family.VARIATIONS:
            return (test.metric, test.segment)
        case Family.SEGMENTS:
            return (test.metric, test.variation)
        case Family.ALL:
            return ()
