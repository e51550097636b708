"""How many people does each inviter bring, and how sure is that?

The K-factor is the invites that an inviter sends, times the share of invites that end in a join:
so the joins per inviter. The invites of one inviter are alike, whether they went to ten close
friends or into a crowd. So all is counted over inviters, the intervals are those of means and of
ratios over inviters (analysis/ratios.py), and ten joins of one inviter are not ten chances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.effects import critical_t
from analysis.estimates import NO_UNITS, NOT_FINITE, TOO_FEW_UNITS, ZERO_VARIANCE, Estimate, mean
from analysis.moments import JointMoments
from analysis.ratios import ratio
from analysis.verdict import Interval, NoVerdict

SENT, JOINED, FVM = 0, 1, 2
"""The columns of the moments."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A figure that is there whenever there is anything to divide by, with an interval if it can
    have one."""

    value: float | None
    interval: Interval | NoVerdict


@dataclass(frozen=True, slots=True)
class Growth:
    inviters: int
    sent_per_inviter: Rate
    conversion: Rate
    """Joins per invite sent."""
    fvm_conversion: Rate
    """First valuable moments per invite sent."""
    k_factor: Rate
    """Joins per inviter: `sent_per_inviter` times `conversion`."""
    fvm_k_factor: Rate
    """First valuable moments per inviter."""


def growth(moments: JointMoments, level: float = 0.95) -> Growth:
    """From the joint moments over inviters of what each sent, and of who joined and reached their
    first valuable moment."""
    return Growth(
        inviters=moments.units,
        sent_per_inviter=_per_inviter(moments, SENT, level),
        conversion=_per_invite(moments, JOINED, level),
        fvm_conversion=_per_invite(moments, FVM, level),
        k_factor=_per_inviter(moments, JOINED, level),
        fvm_k_factor=_per_inviter(moments, FVM, level),
    )


def _per_inviter(moments: JointMoments, column: int, level: float) -> Rate:
    if not moments.units:
        return Rate(None, NO_UNITS)
    return Rate(moments.means[column], _interval(mean(moments.one(column)), level))


def _per_invite(moments: JointMoments, column: int, level: float) -> Rate:
    if not moments.units or not moments.means[SENT] > 0:
        return Rate(None, NO_UNITS)
    value = moments.means[column] / moments.means[SENT]
    found = ratio(moments, column, SENT)
    return Rate(value, found if isinstance(found, NoVerdict) else _interval(found, level))


def _interval(estimate: Estimate, level: float) -> Interval | NoVerdict:
    if estimate.units < 2:
        return TOO_FEW_UNITS
    if not math.isfinite(estimate.unit_variance):
        return NOT_FINITE
    if estimate.unit_variance == 0:
        return ZERO_VARIANCE
    margin = critical_t(level, estimate.units - 1) * estimate.standard_error
    return Interval(estimate.value - margin, estimate.value + margin)
