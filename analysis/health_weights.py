"""Did all units that are counted come under the same weights?

Where weights change along with time, a variation has more units of one time than of another: what
changes from day to day then looks like its effect (Simpson's paradox). So a report counts the units
that were first exposed under the weights of now, and says how many others there are. Who chooses a
period of their own gets all units of it, and no decision where that puts several weights together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from analysis.health import MANY, Figure, Finding, Name, Verdict
from analysis.health_arrivals import Arrivals


def weights(
    arrivals: Sequence[Arrivals],
    splits: Mapping[int, Hashable],
    versions: tuple[int, int] | None,
) -> Finding:
    """`splits`: by version, how it shares out new units. `versions`: those that are counted, from
    and to; None: all. Versions that nobody knows are told of with the sample ratio."""
    by_version: Counter[int] = Counter()
    for one in arrivals:
        by_version[one.version] += sum(one.units.values())
    if versions is not None:
        return _left_out(by_version, *versions)
    return _mixed(by_version, splits)


def _left_out(by_version: Counter[int], low: int, high: int) -> Finding:
    units = by_version.total()
    left_out = units - sum(n for version, n in by_version.items() if low <= version <= high)
    figures: dict[str, Figure] = {
        "units": units,
        "left_out": left_out,
        "from_version": low,
        "to_version": high,
    }
    if not left_out:
        return _fine(figures)
    return Finding(
        Name.WEIGHTS,
        Verdict.WARNING,
        f"{left_out:,} of {units:,} units were first exposed by other versions than {low} to "
        f"{high}, which have the weights of now, and are left out: taken together, what changes "
        "from day to day would look like an effect.",
        "Nothing, when the weights were changed on purpose; `from` and `to` show the units of "
        "another time.",
        figures,
    )


def _mixed(by_version: Counter[int], splits: Mapping[int, Hashable]) -> Finding:
    by_split: Counter[Hashable] = Counter()
    for version, n in by_version.items():
        if n and version in splits:
            by_split[splits[version]] += n
    units = by_split.total()
    others = units - max(by_split.values(), default=0)
    figures: dict[str, Figure] = {"units": units, "weights": len(by_split), "under_others": others}
    if not others:
        return _fine(figures)
    return Finding(
        Name.WEIGHTS,
        Verdict.BAD if others >= MANY * units else Verdict.WARNING,
        f"The units of this period came under {len(by_split)} different sets of weights, "
        f"{others:,} of {units:,} under others than most: what changes from day to day may look "
        "like an effect.",
        "Choose a period in which the weights did not change, or none: then the units of the "
        "weights of now are counted.",
        figures,
    )


def _fine(figures: Mapping[str, Figure]) -> Finding:
    sentence = "All units that are counted came under the same weights."
    return Finding(Name.WEIGHTS, Verdict.OK, sentence, figures=figures)
