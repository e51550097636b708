"""Which answers are there, and why is there sometimes none?

"No answer" is an answer with a reason: no p-value of 1 and no interval from 0 to 0 stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class NoVerdictReason(StrEnum):
    NO_UNITS = "no_units"
    TOO_FEW_UNITS = "too_few_units"
    ZERO_VARIANCE = "zero_variance"
    NOT_FINITE = "not_finite"
    BASELINE_NEAR_ZERO = "baseline_near_zero"
    NEGATIVE_BASELINE = "negative_baseline"
    DENOMINATOR_NEAR_ZERO = "denominator_near_zero"
    NO_COVARIATE = "no_covariate"
    VALUE_TIED = "value_tied"
    NO_ARRIVALS = "no_arrivals"
    SAMPLE_RATIO = "srm"
    NO_DIRECTION = "no_direction"
    NO_PLAN = "no_plan"


@dataclass(frozen=True, slots=True)
class NoVerdict:
    reason: NoVerdictReason
    sentence: str


@dataclass(frozen=True, slots=True)
class Interval:
    """An end that is not bounded, as of a one-sided interval, is infinite."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Effect:
    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm against the baseline. `degrees` is infinite where the normal distribution is used."""

    absolute: Effect
    relative: Effect | NoVerdict
    p_value: float
    statistic: float
    degrees: float
