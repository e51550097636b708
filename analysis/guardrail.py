"""Is a metric that must not get worse still within its limit?

Two one-sided questions about the same number: has the harm passed the limit (breached), and is it
below the limit for sure (holds: a non-inferiority test)? As long as neither is answered, it is
open. A relative limit of 5 % is tested as `arm - 1.05 * baseline`: without a division, so that it
works for a baseline of zero, too.

Each question is answered twice: for one look at the planned end, and for any time. What watches an
experiment all the time, such as a rule that stops it, has to use the latter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from scipy import special

from analysis.effects import NEGATIVE_BASELINE, upper_tail
from analysis.estimates import Difference, Estimate, difference
from analysis.sequential import FEWEST_UNITS, Tuning, above_zero, cautious_difference, too_early
from analysis.verdict import Interval, NoVerdict


class Status(StrEnum):
    HOLDS = "holds"
    OPEN = "open"
    BREACHED = "breached"


@dataclass(frozen=True, slots=True)
class Limit:
    """How much worse a metric may become; 0 for not at all."""

    margin: float
    relative: bool = True
    higher_is_worse: bool = True

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and math.isfinite(self.margin)):
            raise ValueError(f"a guardrail's limit is zero or more, not {self.margin}")


@dataclass(frozen=True, slots=True)
class Answer:
    status: Status
    p_breached: float
    """Of "the harm is within the limit": small when it is not."""
    p_holds: float
    """Of "the harm has passed the limit": small when it has not."""
    excess: Interval
    """Of the harm beyond the limit, in the metric's unit; below zero is within. Each end by itself
    is passed with at most `1 - level`."""


@dataclass(frozen=True, slots=True)
class Guarded:
    excess: float
    at_horizon: Answer
    any_time: Answer | NoVerdict


def guard(
    baseline: Estimate,
    arm: Estimate,
    limit: Limit,
    tuning: Tuning,
    *,
    level: float = 0.95,
    fewest_units: int = FEWEST_UNITS,
) -> Guarded | NoVerdict:
    if limit.relative and baseline.units and baseline.value < 0:
        return NEGATIVE_BASELINE
    sign = 1.0 if limit.higher_is_worse else -1.0
    multiple = 1 + sign * limit.margin if limit.relative else 1.0
    margin = 0.0 if limit.relative else sign * limit.margin
    once = difference(baseline, arm, multiple=multiple, margin=margin)
    if isinstance(once, NoVerdict):
        return once
    always = cautious_difference(baseline, arm, multiple=multiple, margin=margin)
    if isinstance(always, NoVerdict):
        return always
    if not limit.higher_is_worse:
        once, always = _negative(once), _negative(always)
    early = too_early(baseline, arm, fewest_units)
    return Guarded(
        excess=once.value,
        at_horizon=_once(once, level),
        any_time=_always(always, tuning, level) if early is None else early,
    )


def one_sided_p(gap: Difference) -> float:
    """Of "it is not above zero", by Welch's test."""
    return upper_tail(gap.value / gap.standard_error, gap.degrees)


def _once(harm: Difference, level: float) -> Answer:
    margin = -float(special.stdtrit(harm.degrees, 1 - level)) * harm.standard_error
    return _answer(
        one_sided_p(harm),
        one_sided_p(_negative(harm)),
        Interval(harm.value - margin, harm.value + margin),
        level,
    )


def _always(harm: Difference, tuning: Tuning, level: float) -> Answer:
    above = above_zero(harm, tuning, level)
    below = above_zero(_negative(harm), tuning, level)
    bounds = Interval(above.interval.low, -below.interval.low)
    return _answer(above.p_value, below.p_value, bounds, level)


def _answer(p_breached: float, p_holds: float, excess: Interval, level: float) -> Answer:
    status = Status.OPEN
    if p_breached < 1 - level:
        status = Status.BREACHED
    elif p_holds < 1 - level:
        status = Status.HOLDS
    return Answer(status, p_breached, p_holds, excess)


def _negative(gap: Difference) -> Difference:
    return Difference(-gap.value, gap.standard_error, gap.degrees, gap.units)
