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
            "Requests refused for want of a key (no_key, unknown_key, expired_key, revoked_key, "
            "bad_token, unknown_signer) or of a permission (role, scope, experiment).",
            ["reason"],
            registry=self.registry,
        )
        self.rate_limited = Counter(
            "anabranch_http_rate_limited_total",
            "Requests answered with 429, by the role of the key or person.",
            ["role"],
            registry=self.registry,
        )
        self.signing_keys_fetched = Counter(
            "anabranch_oidc_key_fetches_total",
            "Attempts to fetch the identity provider's public keys: ok or failed.",
            ["result"],
            registry=self.registry,
        )
        self.key_uses_failures = Counter(
            "anabranch_key_uses_failures_total",
            "Times that the last uses of API keys could not be stored; they wait for the next.",
            registry=self.registry,
        )
        self.audit_entries = Counter(
            "anabranch_audit_entries_total",
            "Entries of the audit log that Kafka stored (acks=all).",
            registry=self.registry,
        )
        self.audit_waiting = Gauge(
            "anabranch_audit_entries_waiting",
            "Entries of the audit log that Kafka has not stored yet; they are sent until it has.",
            registry=self.registry,
        )
        self.audit_failures = Counter(
            "anabranch_audit_failures_total",
            "Attempts to store entries of the audit log that failed and are made again.",
            registry=self.registry,
        )
        self.audit_lost = Counter(
            "anabranch_audit_entries_lost_total",
            "Entries that were still waiting when the process ended, or (denied) that a limit left "
            "out: lost at_stop, over_limit.",
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
        self.assignments = Counter(
            "anabranch_assignments_total",
            "Decisions by the door they were asked at (http, ofrep) and by their reason.",
            ["door", "reason"],
            registry=self.registry,
        )
        self.exposures = Counter(
            "anabranch_exposures_total",
            "Exposures of decisions: stored by Kafka (stored), refused for what they hold "
            "(refused), without room in the queue (no_room), left when the service ended "
            "(lost_at_stop).",
            ["outcome"],
            registry=self.registry,
        )
        self.exposures_waiting = Gauge(
            "anabranch_exposures_waiting",
            "Exposures that Kafka has not stored yet.",
            registry=self.registry,
        )
        self.streams_open = Gauge(
            "anabranch_streams_open",
            "Server-sent event streams that somebody reads.",
            registry=self.registry,
        )
        self.phases = Counter(
            "anabranch_phases_total",
            "Phases of experiments: open (opened), or not yet, for a reason in the log (retried).",
            ["outcome"],
            registry=self.registry,
        )
        self.kill_switch_rules = Gauge(
            "anabranch_kill_switch_rules",
            "Running experiments with a rule that stops them, as this service watches them.",
            registry=self.registry,
        )
        self.kill_switch_looks = Counter(
            "anabranch_kill_switch_looks_total",
            "Looks at one experiment after new batches: judged; early, before there are enough "
            "units; or without an answer (unknown_metric, unwatchable, refused by ClickHouse, "
            "unavailable for all of them, failed by a bug).",
            ["outcome"],
            registry=self.registry,
        )
        self.kill_switch_blind_seconds = Gauge(
            "anabranch_kill_switch_blind_seconds",
            "Since ClickHouse last answered the kill switch; 0 while no running experiment has a "
            "rule.",
            registry=self.registry,
        )
        self.kill_switch_stops = Counter(
            "anabranch_kill_switch_stops_total",
            "Attempts to stop an experiment whose rule tripped: stopped; conflict, for a change "
            "that was quicker; unavailable, when Kafka was away. Both of the latter are repeated.",
            ["outcome"],
            registry=self.registry,
        )
        self.webhooks = Counter(
            "anabranch_webhooks_total",
            "Webhooks delivered, attempts retried, and messages given up after the last attempt, "
            "refused for want of room (no_room), or under way when the service ended "
            "(lost_at_stop).",
            ["outcome"],
            registry=self.registry,
        )
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
        self.reports = Counter(
            "anabranch_reports_total",
            "Answers of reports, series and growth: made by a query (made), the last one while it "
            "is fresh (kept) or the data are the same (unchanged), shared with another request "
            "that had asked already (shared).",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.report_seconds = Histogram(
            "anabranch_report_duration_seconds",
            "What making an answer of a report, series or growth takes, queries and all.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.report_cache_bytes = Gauge(
            "anabranch_report_cache_bytes",
            "Answers of reports, series and growth that are kept in memory.",
            ["route"],
            registry=self.registry,
        )
        self.query_limits = Counter(
            "anabranch_query_limits_total",
            "Questions that took more time or memory than a query may, answered with 503.",
            ["limit"],
            registry=self.registry,
        )
        self.ready = Gauge(
            "anabranch_ready",
            "1 where the dependency answered the last check, else 0.",
            ["dependency"],
            registry=self.registry,
        )
