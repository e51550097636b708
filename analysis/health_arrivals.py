"""Where and since when do units go missing in one variation more than in another?

Which share of units a variation should have follows from the definition in force when a unit was
first exposed: new weights open a phase, and units that were met before keep what they had (ADR 25).
So units are judged by the version of their first exposure, versions of the same shares together.

With several sets of shares, each is tested by itself and the smallest p-value counts times their
number (Bonferroni); so do segments. Days are not tested one by one: once there is a mismatch, the
day from which on the counts depart most clearly from the plan is named.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from anabranch.bucketing import WHOLE, Range
from anabranch.definitions import Definition
from anabranch.plans import Plan, Status, Surroundings
from analysis import sample_ratio
from analysis.estimates import NO_UNITS
from analysis.health import MANY, Figure, Finding, Name, Verdict
from analysis.sample_ratio import SIGNIFICANT, SampleRatio
from analysis.verdict import NoVerdict

Shares = Mapping[str, float]
"""Of the units that take part, by variation."""

WHAT_TO_DO = (
    "Do not use the results. Look for what differs between the variations before the exposure is "
    "logged: a crash, a redirect, a slow start, a client that logs late, a filter on events."
)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Units of one version, day and segment of their first exposure."""

    version: int
    day: date
    segment: str
    """Of a locale, for instance; empty where it is not known."""
    units: Mapping[str, int]
    """By the variation of the first exposure."""


def expected_shares(definition: Definition, at: datetime) -> Shares:
    """By whole buckets: of 1 % coverage, a third is 34 buckets of 10,000 and not 33.3.

    While a phase is opening, only the buckets on which old and new weights agree take part.
    """
    ranges = Plan(definition, 1, Status.RUNNING, Surroundings()).ranges_at(at.timestamp())
    buckets = WHOLE if definition.hash_version == 2 else WHOLE // 10
    counts = [_buckets(one, buckets) for one in ranges]
    total = sum(counts)
    if not total:  # nobody is covered at that time; whoever came did so before or after
        counts, total = list(definition.weights), WHOLE
    keys = (variation.key for variation in definition.variations)
    return {key: count / total for key, count in zip(keys, counts, strict=True)}


def _buckets(covered: Range, of: int) -> int:
    # By the same comparison of the same floats as an assignment makes.
    places = range(of)
    start = bisect_left(places, covered.start, key=lambda place: place / of)
    return max(0, bisect_left(places, covered.end, key=lambda place: place / of) - start)


@dataclass(frozen=True, slots=True)
class Mismatch:
    p_value: float
    variation: str
    """The one furthest from its share."""
    units: int
    expected: float
    """Of that variation."""


Test = Callable[[Sequence[int], Sequence[float]], SampleRatio | NoVerdict]


def mismatch(
    arrivals: Iterable[Arrivals], shares: Mapping[int, Shares], test: Test
) -> Mismatch | NoVerdict:
    """The clearest of all sets of shares. What nothing is expected of is left out."""
    found: list[Mismatch] = []
    none: NoVerdict | None = None
    alike = _alike(arrivals, shares)
    for planned, some in alike.items():
        units = _units(some, planned)
        tested = test(units, [share for _, share in planned])
        if isinstance(tested, NoVerdict):
            none = tested
            continue
        off = tested.most_off
        found.append(
            Mismatch(
                min(1.0, tested.p_value * len(alike)),
                planned[off][0],
                units[off],
                tested.expected[off],
            )
        )
    if found:
        return min(found, key=lambda one: one.p_value)
    return none or NO_UNITS


def sample_ratios(arrivals: Sequence[Arrivals], shares: Mapping[int, Shares]) -> Finding:
    """`shares` by version; segments and days are those of the arrivals."""
    units = sum(sum(one.units.values()) for one in arrivals)
    unplanned = _unplanned(arrivals, shares)
    overall = mismatch(arrivals, shares, sample_ratio.sequential)
    fixed = mismatch(arrivals, shares, sample_ratio.chi_squared)
    figures: dict[str, Figure] = {
        "p_value": None if isinstance(fixed, NoVerdict) else fixed.p_value,
        "sequential_p_value": None if isinstance(overall, NoVerdict) else overall.p_value,
        "unplanned_units": unplanned,
    }
    if isinstance(overall, NoVerdict):
        if unplanned > MANY * units:
            return _unjudged(unplanned, units, figures)
        return Finding(Name.SAMPLE_RATIO, Verdict.OK, overall.sentence, figures=figures)
    if (bad := _bad(arrivals, shares, overall, figures)) is not None:
        return bad
    if not isinstance(fixed, NoVerdict) and fixed.p_value < SIGNIFICANT:
        return Finding(
            Name.SAMPLE_RATIO,
            Verdict.WARNING,
            f"{_said(fixed)} (p = {fixed.p_value:.2g} for a single look; "
            f"{overall.p_value:.2g} at any time, which is not sure yet).",
            "Look again when more units have come, before anything is decided.",
            figures,
        )
    if unplanned > MANY * units:
        return _unjudged(unplanned, units, figures)
    sentence = f"The variations have the shares of units that they should (p = {_p(fixed)})."
    return Finding(Name.SAMPLE_RATIO, Verdict.OK, sentence, figures=figures)


def _unjudged(unplanned: int, units: int, figures: Mapping[str, Figure]) -> Finding:
    """Bad where it is all of them: then nothing speaks for the shares being right."""
    return Finding(
        Name.SAMPLE_RATIO,
        Verdict.BAD if unplanned == units else Verdict.WARNING,
        f"{unplanned:,} of {units:,} units came by versions or variations that the definition "
        "never had or that are not known any more, and are not judged.",
        "Look for services that log exposures which no assignment of this experiment gave.",
        figures,
    )


def _bad(
    arrivals: Sequence[Arrivals],
    shares: Mapping[int, Shares],
    overall: Mismatch,
    figures: Mapping[str, Figure],
) -> Finding | None:
    """One segment is named where the others are sound."""
    by_segment = _by_segment(arrivals, shares)
    about, segment = overall, None
    if by_segment:
        worst = min(by_segment, key=lambda key: by_segment[key].p_value)
        found = by_segment[worst]
        if found.p_value < SIGNIFICANT and (
            overall.p_value >= SIGNIFICANT or _is_sound_without(arrivals, shares, worst)
        ):
            about, segment = found, worst
    if about.p_value >= SIGNIFICANT:
        return None
    start = loss_starts([one for one in arrivals if segment in (None, one.segment)], shares)
    where = "" if segment is None else f" where the segment is {segment or 'unknown'}"
    since = f" It shows from {start:%Y-%m-%d} on." if start else ""
    return Finding(
        Name.SAMPLE_RATIO,
        Verdict.BAD,
        f"{_said(about)}{where} (p = {about.p_value:.2g}, valid at any time).{since}",
        WHAT_TO_DO,
        {
            **figures,
            "variation": about.variation,
            "segment": segment,
            "starts": start.isoformat() if start else None,
        },
    )


def loss_starts(arrivals: Iterable[Arrivals], shares: Mapping[int, Shares]) -> date | None:
    """The day from which on the counts, up to the last day, depart most clearly from the plan.

    By the likelihood ratio of "as planned before it, with other shares from it on".
    """
    by_day: defaultdict[date, list[Arrivals]] = defaultdict(list)
    for one in arrivals:
        by_day[one.day].append(one)
    best: tuple[float, date] | None = None
    after: defaultdict[_Planned, list[int]] = defaultdict(list)
    for day in sorted(by_day, reverse=True):
        for planned, some in _alike(by_day[day], shares).items():
            units = _units(some, planned)
            before = after[planned] or [0] * len(units)
            after[planned] = [n + more for n, more in zip(before, units, strict=True)]
        distance = math.fsum(_distance(planned, units) for planned, units in after.items())
        if best is None or distance >= best[0]:
            best = distance, day
    return best[1] if best and best[0] > 0 else None


_Planned = tuple[tuple[str, float], ...]


def _alike(
    arrivals: Iterable[Arrivals], shares: Mapping[int, Shares]
) -> dict[_Planned, list[Arrivals]]:
    by_version: defaultdict[int, list[Arrivals]] = defaultdict(list)
    for one in arrivals:
        by_version[one.version].append(one)
    found: defaultdict[_Planned, list[Arrivals]] = defaultdict(list)
    for version, some in by_version.items():
        if planned := shares.get(version):
            found[tuple((key, share) for key, share in planned.items() if share)] += some
    return dict(found)


def _unplanned(arrivals: Iterable[Arrivals], shares: Mapping[int, Shares]) -> int:
    """Units of versions or variations that nothing can be expected of. They are not tested: one
    event made by hand would be a mismatch for ever."""
    return sum(
        units
        for one in arrivals
        for variation, units in one.units.items()
        if not shares.get(one.version, {}).get(variation)
    )


def _units(arrivals: Iterable[Arrivals], planned: _Planned) -> list[int]:
    total: Counter[str] = Counter()
    for one in arrivals:
        total.update(one.units)
    return [total[key] for key, _ in planned]


def _distance(planned: _Planned, units: Sequence[int]) -> float:
    """Twice the log-likelihood ratio of the seen shares against the planned ones."""
    total = sum(units)
    return 2 * math.fsum(
        n * math.log(n / (total * share)) for n, (_, share) in zip(units, planned, strict=True) if n
    )


def _by_segment(arrivals: Sequence[Arrivals], shares: Mapping[int, Shares]) -> dict[str, Mismatch]:
    segments: defaultdict[str, list[Arrivals]] = defaultdict(list)
    for one in arrivals:
        segments[one.segment].append(one)
    found: dict[str, Mismatch] = {}
    if len(segments) < 2:
        return found
    for segment, some in sorted(segments.items()):
        tested = mismatch(some, shares, sample_ratio.sequential)
        if not isinstance(tested, NoVerdict):
            found[segment] = replace(tested, p_value=min(1.0, tested.p_value * len(segments)))
    return found


def _is_sound_without(
    arrivals: Sequence[Arrivals], shares: Mapping[int, Shares], segment: str
) -> bool:
    rest = mismatch(
        [one for one in arrivals if one.segment != segment], shares, sample_ratio.sequential
    )
    return isinstance(rest, NoVerdict) or rest.p_value >= SIGNIFICANT


def _said(found: Mismatch) -> str:
    return (
        f"{found.variation} has {found.units:,} units and should have about {found.expected:,.0f}"
    )


def _p(found: Mismatch | NoVerdict) -> str:
    return "not known yet" if isinstance(found, NoVerdict) else f"{found.p_value:.2g}"
