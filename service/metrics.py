"""What Prometheus sees of the service. The help text of each metric is its documentation."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from streams.metrics import DefinitionMetrics

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ServiceMetrics:
    """One set an application, in a registry of its own: two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

        self.requests = Counter(
            "anabranch_http_requests_total",
            "Requests answered. Route is the path's pattern, or 'none' where no route matched.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "anabranch_http_request_duration_seconds",
            "From the request's head to the last byte of the answer.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.requests_in_flight = Gauge(
            "anabranch_http_requests_in_flight",
            "Requests begun and not answered yet.",
            registry=self.registry,
        )
        self.denied = Counter(
            "anabranch_http_denied_total",
            "Requests refused for want of a key (no_key, unknown_key) or of a permission (role).",
            ["reason"],
            registry=self.registry,
        )
        self.events_accepted = Counter(
            "anabranch_events_accepted_total",
            "Events that Kafka stored (acks=all) and that were acknowledged to the caller.",
            ["type"],
            registry=self.registry,
        )
        self.events_rejected = Counter(
            "anabranch_events_rejected_total",
            "Events refused one by one for their content. The type is 'unknown' where it is.",
            ["type", "reason"],
            registry=self.registry,
        )
        self.events_unavailable = Counter(
            "anabranch_events_unavailable_total",
            "Valid events answered with 503: kafka (not stored in time), overloaded (no room).",
            ["reason"],
            registry=self.registry,
        )
        self.events_in_flight = Gauge(
            "anabranch_events_in_flight",
            "Events taken in and neither stored by Kafka nor given up.",
            registry=self.registry,
        )
        self.produce_seconds = Histogram(
            "anabranch_kafka_produce_duration_seconds",
            "From handing one batch of one partition to the producer until all replicas have it.",
            ["topic"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.produce_failures = Counter(
            "anabranch_kafka_produce_failures_total",
            "Batches that Kafka refused for good, by the error's name.",
            ["error"],
            registry=self.registry,
        )
        self.definitions = DefinitionMetrics(self.registry)
        self.definition_changes = Counter(
            "anabranch_definition_changes_total",
            "Changes of definitions asked for: made (won), refused for another that was quicker "
            "(conflict), for their content (refused), for want of Kafka and not written "
            "(unavailable), and sent without an answer in time (unknown).",
            ["outcome"],
            registry=self.registry,
        )
        self.definition_copies = Counter(
            "anabranch_definition_copies_total",
            "Copies of a winner written behind a record that lost or cannot be read, so that "
            "compaction keeps the winner.",
            registry=self.registry,
        )
        self.ready = Gauge(
            "anabranch_ready",
            "1 where the dependency answered the last check, else 0.",
            ["dependency"],
            registry=self.registry,
        )
