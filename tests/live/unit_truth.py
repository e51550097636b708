"""What a report should find of units: from their events, one by one, in plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from analysis.metric_catalogue import Metric, Source
from analysis.unit_statistics import Multiple, StatisticsRequest
from tests.live.measured_units import SCHEMAS, Event, Events, milliseconds

PAST = timedelta(days=14)


class Truth:
    """What a request should find."""

    def __init__(self, events: Events, request: StatisticsRequest) -> None:
        self.request = request
        self._events = events
        self._first: dict[str, Event] = {}
        self._seen: dict[str, set[str]] = {}
        self._exposures: dict[str, int] = {}
        order = ("ts", "version", "variation", "locale")
        for one in sorted(events.exposures, key=lambda one: [one[name] for name in order]):
            self._first.setdefault(one["unit"], one)
            self._seen.setdefault(one["unit"], set()).add(one["variation"])
            self._exposures[one["unit"]] = self._exposures.get(one["unit"], 0) + 1
        self._units = [unit for unit, first in self._first.items() if self._in_period(first)]

    @property
    def multiple_exposures(self) -> int:
        return sum(len(self._seen[unit]) > 1 for unit in self._units)

    @property
    def unknown(self) -> int:
        known = set(self.request.variations)
        return sum(not self._seen[unit] & known for unit in self._units)

    @property
    def segments(self) -> list[str]:
        return sorted(
            {self.segment(unit) for key in self.request.variations for unit in self.arm(key)}
        )

    def arm(self, variation: str) -> list[str]:
        match self.request.multiple:
            case Multiple.EXCLUDE:
                return [unit for unit in self._units if self._seen[unit] == {variation}]
            case Multiple.FIRST:
                first = self._first
                return [unit for unit in self._units if first[unit]["variation"] == variation]
            case Multiple.BOTH:
                return [unit for unit in self._units if variation in self._seen[unit]]

    def segment(self, unit: str) -> str:
        first, by = self._first[unit], self.request.by
        if by is None or by == "locale":
            return str(first["locale"])
        return next((str(p["value"]) for p in first["attributes"] if p["name"] == by), "")

    def exposures(self, units: Iterable[str]) -> int:
        return sum(self._exposures[unit] for unit in units)

    def columns(self, metric: Metric, units: Sequence[str], variation: str) -> list[list[float]]:
        """A value for each unit: now, and before where outcomes tell of that."""
        sources = [one for one in (metric.source, metric.numerator, metric.denominator) if one]
        found = [self._column(metric, source, units, variation) for source in sources]
        if all(source.outcome for source in sources):
            found += [
                self._column(metric, source, units, variation, past=True) for source in sources
            ]
        return found

    def _column(
        self,
        metric: Metric,
        source: Source,
        units: Sequence[str],
        variation: str,
        *,
        past: bool = False,
    ) -> list[float]:
        cap = math.inf
        if metric.cap is not None and metric.cap.absolute is not None:
            cap = metric.cap.absolute
        elif metric.cap is not None and metric.cap.percentile is not None:
            everyone = [
                self._value(metric, source, unit, key, past)
                for key in self.request.variations
                for unit in self.arm(key)
            ]
            rank = int(metric.cap.percentile * len(everyone))
            cap = sorted(everyone)[min(rank, len(everyone) - 1)]
        return [min(cap, self._value(metric, source, unit, variation, past)) for unit in units]

    def values(self, metric: Metric, source: Source, unit: str, variation: str) -> list[float]:
        return list(self._values(metric, source, unit, variation, past=False))

    def _value(
        self, metric: Metric, source: Source, unit: str, variation: str, past: bool
    ) -> float:
        values = list(self._values(metric, source, unit, variation, past))
        if metric.kind == "count":
            return len(values)
        if metric.kind == "proportion":
            return float(any(value != 0 for value in values))
        return math.fsum(values)

    def _values(
        self, metric: Metric, source: Source, unit: str, variation: str, past: bool
    ) -> Iterable[float]:
        both = self.request.multiple is Multiple.BOTH
        since = self._first[unit]["ts"]
        hours = metric.conversion_window_hours
        low, high = -math.inf, math.inf if hours is None else since + hours * 3_600_000
        if hours is not None or source.outcome is not None:
            low = since
        if past:
            low, high = since - PAST / timedelta(milliseconds=1), since

        def counts(event: Event, of: str) -> bool:
            return bool(low <= event["ts"] < high and (not both or of == variation))

        if source.outcome is not None:
            for event in self._of("outcomes", unit):
                if low <= event["ts"] < high:
                    yield from (v["value"] for v in event["values"] if v["name"] == source.outcome)
        elif source.exposures and hours is None:
            yield from [1.0] * self._exposures[unit]
        elif source.exposures:
            yield from (1.0 for e in self._of("exposures", unit) if counts(e, e["variation"]))
        elif source.turn:
            for event in self._of("turn_metrics", unit):
                if counts(event, event["exposures"][0]["variation"]):
                    yield float(event[source.turn])
        elif source.invite:
            for event in self._of("invites", unit):
                wanted = event["kind"] == source.invite.step
                loop = source.invite.loop in (None, event["loop"])
                if wanted and loop and counts(event, event["exposures"][0]["variation"]):
                    yield 1.0

    def _of(self, table: str, unit: str) -> list[Event]:
        if not hasattr(self, "_by_unit"):
            self._by_unit: dict[tuple[str, str], list[Event]] = {}
            names = {"turn_metrics": "session", "invites": "inviter"}
            for name in SCHEMAS:
                for event in getattr(self._events, name):
                    key = (name, event[names.get(name, "unit")])
                    self._by_unit.setdefault(key, []).append(event)
        return self._by_unit.get((table, unit), [])

    def _in_period(self, first: Event) -> bool:
        request = self.request
        if request.since is not None and first["ts"] < milliseconds(request.since):
            return False
        if request.until is not None and first["ts"] >= milliseconds(request.until):
            return False
        low, high = request.versions or (0, 10**6)
        return bool(low <= first["version"] <= high)


def centred(columns: Sequence[Sequence[float]]) -> tuple[list[float], Any]:
    """Means and sums of products of deviations, with more digits than a double has."""
    wide = np.asarray(columns, dtype=np.longdouble)
    means = wide.mean(axis=1)
    deviations = wide - means[:, None]
    return [float(mean) for mean in means], (deviations @ deviations.T).astype(float)
