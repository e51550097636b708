"""An emitter's counters for Prometheus, read when it is scraped: nothing is counted twice.

    from anabranch.metrics import expose
    expose(emitter)

Needs `pip install anabranch[prometheus]`. Emitters are told apart by the label `emitter`; those of
one name are added up, and exposing one again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from anabranch.counters import Counters
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
