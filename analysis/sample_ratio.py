"""Do the variations have as many units as they should?

If not, units were lost (or doubled) in one variation more than in another, and the ones that are
left no longer resemble each other: no result of such an experiment can be trusted. See Fabijan et
al. (2019), "Diagnosing sample ratio mismatch in online controlled experiments", KDD.

The chi-squared test is for one look. The sequential one (Lindon and Malek 2022, "Anytime-valid
inference for multinomial count data", NeurIPS) may be looked at after every unit: its p-value is
the inverse of a Bayes factor, and ever falls below 0.001 in at most 0.1 % of sound experiments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy import special

from analysis.estimates import NO_UNITS
from analysis.verdict import NoVerdict, NoVerdictReason

SIGNIFICANT = 0.001
"""Below it a mismatch is reported: stricter than for effects, since the test is always on."""

CONCENTRATION = 1_000.0
"""How near to the planned shares the sequential test looks for others: within some percent.

Ten times as much finds a share of 0.502 instead of 0.5 after 11 % fewer units, and one of 0.55
after twice as many.
"""

_FEWEST_EXPECTED = 5.0


@dataclass(frozen=True, slots=True)
class SampleRatio:
    p_value: float
    expected: tuple[float, ...]
    most_off: int
    """Which variation is furthest from its expected units, in standard errors."""


def chi_squared(units: Sequence[int], weights: Sequence[float]) -> SampleRatio | NoVerdict:
    """Weights in any scale. A variation of weight 0 should have no units."""
    expected = _expected(units, weights)
    if isinstance(expected, NoVerdict):
        return expected
    if _impossible(units, weights):
        return SampleRatio(0.0, expected, _most_off(units, expected))
    cells = [(n, e) for n, e in zip(units, expected, strict=True) if e]
    if min(e for _, e in cells) < _FEWEST_EXPECTED:
        return NoVerdict(
            NoVerdictReason.TOO_FEW_UNITS,
            "The sample ratio is tested once each variation should have 5 units.",
        )
    statistic = math.fsum((n - e) * (n - e) / e for n, e in cells)
    p_value = float(special.chdtrc(len(cells) - 1, statistic)) if len(cells) > 1 else 1.0
    return SampleRatio(p_value, expected, _most_off(units, expected))


def sequential(
    units: Sequence[int],
    weights: Sequence[float],
    *,
    earlier: float = 1.0,
    concentration: float = CONCENTRATION,
) -> SampleRatio | NoVerdict:
    """`earlier` is the smallest p-value seen at former looks: a mismatch does not mend itself."""
    expected = _expected(units, weights)
    if isinstance(expected, NoVerdict):
        return expected
    p_value = 0.0
    if not _impossible(units, weights):
        shares = [weight / sum(weights) for weight in weights]
        p_value = min(1.0, earlier, math.exp(min(0.0, -_log_bayes(units, shares, concentration))))
    return SampleRatio(p_value, expected, _most_off(units, expected))


def first_mismatch(
    periods: Iterable[Sequence[int]], weights: Sequence[float], level: float = SIGNIFICANT
) -> int | None:
    """In which of the periods (days, hours; units that are new in each) the mismatch shows."""
    seen = [0] * len(weights)
    for index, units in enumerate(periods):
        seen = [before + new for before, new in zip(seen, units, strict=True)]
        found = sequential(seen, weights)
        if not isinstance(found, NoVerdict) and found.p_value < level:
            return index
    return None


def _expected(units: Sequence[int], weights: Sequence[float]) -> tuple[float, ...] | NoVerdict:
    if len(units) != len(weights):
        raise ValueError(f"{len(units)} variations have units and {len(weights)} have weights")
    if min(weights, default=-1.0) < 0 or not sum(weights) > 0:
        raise ValueError(f"weights are not negative and not all zero, as {list(weights)} are")
    if not sum(units):
        return NO_UNITS
    return tuple(sum(units) * weight / sum(weights) for weight in weights)


def _impossible(units: Sequence[int], weights: Sequence[float]) -> bool:
    return any(n and not weight for n, weight in zip(units, weights, strict=True))


def _most_off(units: Sequence[int], expected: Sequence[float]) -> int:
    def distance(index: int) -> float:
        if not expected[index]:
            return math.inf if units[index] else 0.0
        return abs(units[index] - expected[index]) / math.sqrt(expected[index])

    return max(range(len(units)), key=distance)


def _log_bayes(units: Sequence[int], shares: Sequence[float], concentration: float) -> float:
    """Of a Dirichlet prior around the planned shares, against the planned shares themselves."""
    total = sum(units)
    terms = [special.gammaln(concentration) - special.gammaln(concentration + total)]
    for n, share in zip(units, shares, strict=True):
        if share:
            prior = concentration * share
            terms.append(special.gammaln(prior + n) - special.gammaln(prior) - n * math.log(share))
    return math.fsum(terms)
