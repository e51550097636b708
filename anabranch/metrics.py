"""An emitter's and assignment's counters for Prometheus, read when they are scraped: nothing is
counted twice.

    from anabranch.metrics import expose, expose_experiments
    expose(emitter)
    expose_experiments(experiments)

Needs `pip install anabranch[prometheus]`. Emitters are told apart by the label `emitter`; those of
one name are added up, and exposing one again changes nothing. A process has one `Experiments` as a
rule; the figures of several are added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from anabranch.counters import Counters
from anabranch.experiments import Experiments, ExperimentsCounters
from anabranch.settings import EmitterSettings

_PREFIX = "anabranch_emitter_"
_COUNTERS = {
    "events": "Events taken for delivery.",
    "delivered": "Events that Kafka acknowledged.",
    "flushes": "Record batches that Kafka acknowledged.",
    "flush_failures": "Failed attempts to reach Kafka or the registry, or to store a batch.",
}
_BY_REASON = ("dropped", "reason", "Events that will never arrive, by reason.")
_BY_TYPE = ("invalid", "type", "Events refused for what they say, by type.")
_GAUGES = {
    "queue_length": "Events taken and not yet stored by Kafka.",
    "queue_capacity": "Events that may wait; more are dropped.",
}


class Counted(Protocol):
    """Either emitter."""

    settings: EmitterSettings

    @property
    def counters(self) -> Counters: ...

    @property
    def queued(self) -> int: ...


def expose(
    emitter: Counted, *, name: str = "default", registry: CollectorRegistry = REGISTRY
) -> None:
    """From now on the registry shows this emitter, for as long as it lives."""
    collector = _collectors.get(registry)
    if collector is None:
        collector = _collectors[registry] = _EmitterCollector()
        registry.register(collector)
    collector.emitters[emitter] = name


def describe_emitter() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Name, kind, labels and meaning of each metric, for documentation."""
    for figure, meaning in _COUNTERS.items():
        yield f"{_PREFIX}{figure}_total", "counter", ("emitter",), meaning
    for figure, label, meaning in (_BY_REASON, _BY_TYPE):
        yield f"{_PREFIX}{figure}_total", "counter", ("emitter", label), meaning
    for figure, meaning in _GAUGES.items():
        yield _PREFIX + figure, "gauge", ("emitter",), meaning


class _EmitterCollector(Collector):
    def __init__(self) -> None:
        # Weak: being watched must not keep an emitter alive.
        self.emitters: WeakKeyDictionary[Counted, str] = WeakKeyDictionary()

    def describe(self) -> Iterable[Metric]:
        """Names alone, so that registering reads no emitter."""
        return _families({})

    def collect(self) -> Iterable[Metric]:
        figures: dict[str, Counter[tuple[str, str]]] = {}
        for emitter, name in list(self.emitters.items()):
            for figure, label, value in _read(emitter):
                figures.setdefault(name, Counter())[figure, label] += value
        return _families(figures)


_collectors: WeakKeyDictionary[CollectorRegistry, _EmitterCollector] = WeakKeyDictionary()


def _read(emitter: Counted) -> Iterator[tuple[str, str, int]]:
    counters = emitter.counters
    yield "events", "", counters.emitted
    yield "delivered", "", counters.delivered
    yield "flushes", "", counters.flushes
    yield "flush_failures", "", counters.flush_failures
    yield "queue_length", "", emitter.queued
    yield "queue_capacity", "", emitter.settings.capacity
    for reason, count in counters.dropped.items():
        yield "dropped", reason, count
    for kind, count in list(counters.invalid.items()):
        yield "invalid", kind, count


def _families(figures: dict[str, Counter[tuple[str, str]]]) -> Iterator[Metric]:
    for figure, meaning in _COUNTERS.items():
        counter = CounterMetricFamily(_PREFIX + figure, meaning, labels=["emitter"])
        for name, values in figures.items():
            counter.add_metric([name], values[figure, ""])
        yield counter
    for figure, meaning in _GAUGES.items():
        gauge = GaugeMetricFamily(_PREFIX + figure, meaning, labels=["emitter"])
        for name, values in figures.items():
            gauge.add_metric([name], values[figure, ""])
        yield gauge
    for figure, label, meaning in (_BY_REASON, _BY_TYPE):
        counter = CounterMetricFamily(_PREFIX + figure, meaning, labels=["emitter", label])
        for name, values in figures.items():
            for (of, value), count in sorted(values.items()):
                if of == figure:
                    counter.add_metric([name, value], count)
        yield counter


_OF_EXPERIMENTS = "anabranch_experiments_"
_EXPERIMENTS_COUNTERS = {
    "refreshes": "Times that other definitions were taken.",
    "failures": "Times that definitions could not be fetched, read or taken.",
    "exposures_logged": "Exposures that the emitter took.",
    "exposures_repeated": "Exposures not logged, since the same one was within the window.",
    "exposures_refused": "Exposures that the emitter did not take; its own metrics say why.",
    "dimensions_left_out": "Values of dimensions that exposures do not carry: no scalar, too "
    "long, unprintable, personal.",
    "failed": "Assignments that failed and gave the default.",
}
_EXPERIMENTS_GAUGES = {
    "revision": "Of the definitions in use, the lowest where there are several; 0 without any.",
    "age_seconds": "Since the definitions in use were last known to be the newest; absent without "
    "any.",
    "unusable": "Definitions that cannot be used; the log says why.",
}
_INVALID_PARAMS = (
    "anabranch_invalid_params",
    "Parameters not passed on as written, once for each version of a definition.",
    ("experiment", "parameter", "reason"),
)


def expose_experiments(experiments: Experiments, *, registry: CollectorRegistry = REGISTRY) -> None:
    """From now on the registry shows it, for as long as it lives."""
    collector = _experiments_collectors.get(registry)
    if collector is None:
        collector = _experiments_collectors[registry] = _ExperimentsCollector()
        registry.register(collector)
    collector.watched.add(experiments)


def describe_experiments() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """As `describe_emitter`."""
    for figure, meaning in _EXPERIMENTS_COUNTERS.items():
        yield f"{_OF_EXPERIMENTS}{figure}_total", "counter", (), meaning
    for figure, meaning in _EXPERIMENTS_GAUGES.items():
        yield _OF_EXPERIMENTS + figure, "gauge", (), meaning
    name, meaning, labels = _INVALID_PARAMS
    yield f"{name}_total", "counter", labels, meaning


class _ExperimentsCollector(Collector):
    def __init__(self) -> None:
        self.watched: WeakSet[Experiments] = WeakSet()

    def describe(self) -> Iterable[Metric]:
        return _experiments_families([])

    def collect(self) -> Iterable[Metric]:
        return _experiments_families(list(self.watched))


_experiments_collectors: WeakKeyDictionary[CollectorRegistry, _ExperimentsCollector] = (
    WeakKeyDictionary()
)


def _experiments_families(watched: list[Experiments]) -> Iterator[Metric]:
    counted: list[ExperimentsCounters] = [experiments.counters for experiments in watched]
    for figure, meaning in _EXPERIMENTS_COUNTERS.items():
        value = sum(getattr(counters, figure) for counters in counted)
        yield CounterMetricFamily(_OF_EXPERIMENTS + figure, meaning, value=value)
    ages = [age for one in watched if (age := one.age_seconds) is not None]
    values: dict[str, float | None] = {
        "revision": min((one.revision for one in watched), default=0),
        "age_seconds": max(ages, default=None),
        "unusable": sum(len(one.definitions.unusable) for one in watched),
    }
    for figure, meaning in _EXPERIMENTS_GAUGES.items():
        yield GaugeMetricFamily(_OF_EXPERIMENTS + figure, meaning, value=values[figure])
    name, meaning, labels = _INVALID_PARAMS
    family = CounterMetricFamily(name, meaning, labels=labels)
    invalid = sum((counters.invalid_params for counters in counted), Counter())
    for given, count in sorted(invalid.items()):
        family.add_metric(list(given), count)
    yield family
