"""Which sums of a unit does a report need, and what does each of its metrics make of them?

A *raw* column is what the engine adds up for a unit, such as the turn times of its turns or the
revenue of its outcomes in 72 hours. A *value* is what a metric takes from it: the sum itself, the
sum with a cap, or whether there is any. Metrics that need the same share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import combinations_with_replacement
from typing import NamedTuple

from analysis.metric_catalogue import Cap, Kind, Metric, Source

PAST_DAYS = 14
"""How far back the past of a unit goes, for CUPED: two weeks have two of each weekday."""


class Table(Enum):
    """Where a raw column comes from."""

    COHORT = auto()
    """What is known of the unit's exposures anyway."""
    UNIT_METRICS = auto()
    TURNS = auto()
    EXPOSURES = auto()
    INVITES = auto()
    OUTCOMES = auto()


class What(Enum):
    SUM = auto()
    COUNT = auto()
    NONZERO = auto()
    """How many are not zero; a sum where nothing can be below zero."""


@dataclass(frozen=True, slots=True)
class Raw:
    source: Source
    what: What
    window_hours: float | None = None
    past: bool = False
    """From the two weeks before the first exposure instead of from then on."""

    @property
    def table(self) -> Table:
        windowed = self.window_hours is not None
        if self.source.turn is not None:
            return Table.TURNS if windowed else Table.UNIT_METRICS
        if self.source.exposures is not None:
            return Table.EXPOSURES if windowed else Table.COHORT
        return Table.INVITES if self.source.invite is not None else Table.OUTCOMES

    @property
    def is_whole(self) -> bool:
        """Whole numbers, which add up without rounding."""
        return self.source.outcome is None or self.what is not What.SUM


@dataclass(frozen=True, slots=True)
class Value:
    raw: Raw
    cap: Cap | None = None
    is_any: bool = False
    """1 where the raw column is not zero."""

    @property
    def is_whole(self) -> bool:
        return self.raw.is_whole and (self.cap is None or self.cap.absolute is None)


class Sum(NamedTuple):
    """Over units: of a value or, with `other`, of the product of two."""

    value: int
    other: int | None
    is_whole: bool
    """Of whole numbers, without rounding; else of what they differ from their shifts."""


class Columns(NamedTuple):
    raws: tuple[Raw, ...]
    values: tuple[Value, ...]
    of_metrics: Mapping[str, tuple[int, ...]]
    """By metric, in the order of its joint moments: which of the values."""
    caps: Mapping[str, int]
    """Names of percentiles that have to be known before: which of the values they cap."""

    def is_whole(self, metric: str) -> bool:
        return all(self.values[index].is_whole for index in self.of_metrics[metric])

    def sums(self) -> tuple[Sum, ...]:
        """All that the metrics need, each once."""
        wanted: dict[Sum, None] = {}
        for metric, indices in self.of_metrics.items():
            whole = self.is_whole(metric)
            wanted.update(dict.fromkeys(Sum(i, None, whole) for i in indices))
            pairs = combinations_with_replacement(sorted(indices), 2)
            wanted.update(dict.fromkeys(Sum(i, j, whole) for i, j in pairs))
        return tuple(wanted)

    def shifted(self) -> tuple[int, ...]:
        """Values whose mean has to be known roughly before."""
        return tuple(dict.fromkeys(one.value for one in self.sums() if not one.is_whole))


def columns_of(metrics: Mapping[str, Metric]) -> Columns:
    """Of all but quantiles, which are not made of sums."""
    of_metrics: dict[str, list[Value]] = {}
    for key, metric in metrics.items():
        if metric.kind != "quantile":
            now = list(_values(metric))
            of_metrics[key] = now + [_before(value) for value in now if has_past(metric)]
    values = tuple(dict.fromkeys(value for all_of in of_metrics.values() for value in all_of))
    return Columns(
        raws=tuple(dict.fromkeys(value.raw for value in values)),
        values=values,
        of_metrics={
            key: tuple(values.index(value) for value in all_of)
            for key, all_of in of_metrics.items()
        },
        caps={
            name: values.index(value)
            for key, all_of in of_metrics.items()
            for name, value in zip(cap_names(key, metrics[key]), all_of, strict=False)
            if value.cap is not None and value.cap.percentile is not None
        },
    )


def cap_names(key: str, metric: Metric) -> tuple[str, ...]:
    if metric.kind == "ratio":
        return (f"{key}.numerator", f"{key}.denominator")
    return (key,)


def has_past(metric: Metric) -> bool:
    """Outcomes name their unit whether it was exposed or not; turns and invites do not."""
    return all(source.outcome is not None for source in _sources(metric))


def _sources(metric: Metric) -> Iterable[Source]:
    return [
        source
        for source in (metric.source, metric.numerator, metric.denominator)
        if source is not None
    ]


def _values(metric: Metric) -> Iterable[Value]:
    for source in _sources(metric):
        what = _what(metric.kind, source)
        raw = Raw(source, what, metric.conversion_window_hours)
        yield Value(raw, metric.cap, is_any=metric.kind == "proportion")


def _what(kind: Kind, source: Source) -> What:
    if source.invite is not None or source.exposures is not None or kind == "count":
        return What.COUNT
    return What.NONZERO if kind == "proportion" else What.SUM


def _before(value: Value) -> Value:
    raw = Raw(value.raw.source, value.raw.what, past=True)
    return Value(raw, value.cap, is_any=value.is_any)
