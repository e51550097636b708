"""All findings about the data of an experiment, from what was read of it in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.health import (
    DeadLetters,
    Finding,
    Health,
    dead_letters,
    freshness,
    late_events,
    multiple_exposures,
)
from analysis.health_arrivals import Arrivals, Shares, sample_ratios
from analysis.health_effects import Lasting, novelty
from analysis.moments import JointMoments


@dataclass(frozen=True, slots=True)
class Observed:
    """Of the units first exposed in a period, and of the events in it."""

    arrivals: Sequence[Arrivals]
    """By the first variation of each unit, of those in several as well."""
    in_several: int
    exposures: int
    late: int
    """Events of all experiments that came after their minute had been closed."""
    events: int
    """Of all experiments."""
    dead: DeadLetters
    lasting: Mapping[str, Mapping[str, JointMoments]] = field(default_factory=dict)
    """By metric and variation, for `health_effects.Lasting`."""

    @property
    def units(self) -> int:
        return sum(sum(one.units.values()) for one in self.arrivals)


def data_health(
    observed: Observed,
    shares: Mapping[int, Shares],
    baseline: str,
    lag_seconds: float | None,
    pending: int | None = None,
) -> Health:
    """`shares` by version of the definition; see `health_arrivals.expected_shares`. What follows
    from effects beside novelty (power, guardrails) is in `health_effects`."""
    pairs = [
        Lasting(metric, variation, arms[baseline], moments)
        for metric, arms in observed.lasting.items()
        if baseline in arms
        for variation, moments in arms.items()
        if variation != baseline
    ]
    findings: list[Finding] = [
        sample_ratios(observed.arrivals, shares),
        multiple_exposures(observed.units, observed.in_several),
        late_events(observed.late, observed.events),
        dead_letters(observed.dead, observed.exposures),
        freshness(lag_seconds, pending),
        *novelty(pairs),
    ]
    return Health(tuple(findings))
