"""What Prometheus sees of a worker. The help text of each metric is its documentation."""

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

from anabranch.definition_records import Outcome

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000)
_LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 900.0, 86_400.0)
_AGES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


class DefinitionMetrics:
    """Of a reader of the definition log, in whatever process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "anabranch_definition_records_total",
            "Records of the definition log, each once: changes (won), changes that came second "
            "(lost), copies (repeated), and what is no definition and was skipped (unreadable).",
            ["outcome"],
            registry=registry,
        )
        self.documents = Gauge(
            "anabranch_definition_documents",
            "Definitions held: experiments and what they rest on, deleted ones among them.",
            registry=registry,
        )
        self.revision = Gauge(
            "anabranch_definition_revision",
            "The offset behind the last record that was read; equal in all processes.",
            registry=registry,
        )
        self.stale_seconds = Gauge(
            "anabranch_definition_stale_seconds",
            "How long ago the definitions held were known to be the newest; 0 while they are.",
            registry=registry,
        )
        self.snapshot_failures = Counter(
            "anabranch_definition_snapshot_failures_total",
            "Times that the snapshot of the definitions on disk could not be written or read.",
            registry=registry,
        )
        self.logs_made_anew = Counter(
            "anabranch_definition_logs_made_anew_total",
            "Times that the log ended before what had been read of it, and was read as a new one.",
            registry=registry,
        )
        self.unusable = Counter(
            "anabranch_definitions_unusable_total",
            "Versions of definitions that this process cannot use; the log says which and why.",
            registry=registry,
        )
        self.invalid_params = Counter(
            "anabranch_invalid_params_total",
            "Parameters that are not passed on as they were written, each once for a version that "
            "was read: clamped, unknown, mistyped, not_allowed, no_set.",
            ["experiment", "reason"],
            registry=registry,
        )
        for outcome in Outcome:
            self.records.labels(outcome)


class WorkerMetrics:
    """One set a worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

        self.records = Counter(
            "anabranch_worker_records_total",
            "Records applied: stored as rows (stored), given up as dead letters (dead), or left "
            "out (skipped) as replays of a dead letter that another replay has brought back.",
            ["topic", "outcome"],
            registry=registry,
        )
        self.dead = Counter(
            "anabranch_worker_dead_letters_total",
            "Dead letters by reason; streams/reasons.py says what each means.",
            ["topic", "reason"],
            registry=registry,
        )
        self.lost = Counter(
            "anabranch_worker_lost_offsets_total",
            "Offsets that Kafka deleted by retention, or lost, before they were applied.",
            ["topic"],
            registry=registry,
        )
        self.late = Counter(
            "anabranch_worker_late_events_total",
            "Events that fell into a window that had closed; each is in the table restatements.",
            ["topic"],
            registry=registry,
        )
        self.batch_rows = Histogram(
            "anabranch_worker_batch_rows",
            "Rows of one batch: a range of offsets of one partition.",
            ["topic"],
            buckets=_ROWS,
            registry=registry,
        )
        self.form_seconds = Histogram(
            "anabranch_worker_form_duration_seconds",
            "Decoding, checking and aggregating one batch.",
            ["topic"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.slow_records = Counter(
            "anabranch_worker_slow_records_total",
            "Records decoded one by one, since their record batch is not plain (headers, several "
            "schemas, a bad record among them).",
            ["topic"],
            registry=registry,
        )
        self.insert_seconds = Histogram(
            "anabranch_worker_insert_duration_seconds",
            "One successful insert into a table of ClickHouse.",
            ["table"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.insert_rows = Counter(
            "anabranch_worker_insert_rows_total",
            "Rows of successful inserts, those that ClickHouse knew already among them.",
            ["table"],
            registry=registry,
        )
        self.insert_failures = Counter(
            "anabranch_worker_insert_failures_total",
            "Failed attempts by ClickHouse's error code, or unavailable. Most are tried again.",
            ["table", "reason"],
            registry=registry,
        )
        self.age_seconds = Histogram(
            "anabranch_worker_event_age_seconds",
            "From a record's timestamp in Kafka until its batch was stored: the newest and the "
            "oldest record of each batch.",
            ["topic"],
            buckets=_AGES,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "anabranch_worker_commit_duration_seconds",
            "One commit of intents and confirmations to Kafka.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.reformed = Counter(
            "anabranch_worker_reformed_batches_total",
            "Batches that an earlier owner had intended, and that were formed again.",
            ["topic"],
            registry=registry,
        )
        self.fenced = Counter(
            "anabranch_worker_fenced_total",
            "Times that this worker found that the group had gone on without it.",
            registry=registry,
        )
        self.seeks = Counter(
            "anabranch_worker_seeks_total",
            "Times that a partition was read again from where the ledger stands.",
            ["topic"],
            registry=registry,
        )
        self.rebalances = Counter(
            "anabranch_worker_rebalances_total",
            "Assignments of partitions to this worker.",
            registry=registry,
        )
        self.pauses = Counter(
            "anabranch_worker_pauses_total",
            "Times that a partition was held back since too much of it was waiting.",
            ["topic"],
            registry=registry,
        )
        self.takeover_seconds = Histogram(
            "anabranch_worker_takeover_seconds",
            "From the loss of all partitions in a rebalance to the first batch after it.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.partitions = Gauge(
            "anabranch_worker_partitions", "Partitions that this worker has.", registry=registry
        )
        self.held_back = Gauge(
            "anabranch_worker_held_back_partitions",
            "Partitions held back now.",
            registry=registry,
        )
        self.lag = Gauge(
            "anabranch_worker_lag_records",
            "Offsets between the end of the partition and what is applied.",
            ["topic", "partition"],
            registry=registry,
        )
        self.watermark = Gauge(
            "anabranch_worker_watermark_seconds",
            "Highest event time applied of the partition, in seconds since 1970.",
            ["topic", "partition"],
            registry=registry,
        )
        self.waiting_bytes = Gauge(
            "anabranch_worker_waiting_bytes",
            "Fetched and not applied yet, compressed, in bytes.",
            registry=registry,
        )
        self.last_progress = Gauge(
            "anabranch_worker_last_progress_seconds",
            "When a batch was last applied, or found that there was none, in seconds since 1970.",
            registry=registry,
        )
        self.ready = Gauge(
            "anabranch_worker_ready",
            "1 where the dependency answered last, else 0.",
            ["dependency"],
            registry=registry,
        )
        self.verified = Gauge(
            "anabranch_worker_self_check_differences",
            "Differences that the last self-check found between the raw rows of the last hour and "
            "what is made of them; absent before the first.",
            registry=registry,
        )
        self.verified_at = Gauge(
            "anabranch_worker_self_check_seconds",
            "When the last self-check ended, in seconds since 1970.",
            registry=registry,
        )
        self.definitions = DefinitionMetrics(registry)

        self.assignments = AssignmentMetrics(registry)

    def inserted(self, table: str, rows: int, seconds: float) -> None:
        self.insert_seconds.labels(table).observe(seconds)
        self.insert_rows.labels(table).inc(rows)

    def failed(self, table: str, reason: str) -> None:
        self.insert_failures.labels(table, reason).inc()


class AssignmentMetrics:
    """Of the agent that answers assignment requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "anabranch_worker_assignment_requests_total",
            "Assignment requests dealt with: answered, or given up as dead letters (dead).",
            ["outcome"],
            registry=registry,
        )
        self.answers = Counter(
            "anabranch_worker_assignments_total",
            "Answers that Kafka has, one for each request and experiment, by the reason of the "
            "assignment.",
            ["reason"],
            registry=registry,
        )
        self.exposures = Counter(
            "anabranch_worker_assignment_exposures_total",
            "Exposures that Kafka has, of units that answers put into an experiment.",
            registry=registry,
        )
        self.latency_seconds = Histogram(
            "anabranch_worker_assignment_latency_seconds",
            "From a request's timestamp in Kafka until Kafka has its answers: the newest and the "
            "oldest request of each batch.",
            buckets=_LATENCIES,
            registry=registry,
        )
        self.batch_requests = Histogram(
            "anabranch_worker_assignment_batch_requests",
            "Requests that were answered together.",
            buckets=_ROWS,
            registry=registry,
        )
        self.failures = Counter(
            "anabranch_worker_assignment_failures_total",
            "Failed attempts to write answers to Kafka; all are tried again.",
            registry=registry,
        )
        self.refused = Counter(
            "anabranch_worker_assignments_refused_total",
            "Answers that were dropped: larger than their reply topic takes, or it is gone.",
            ["topic"],
            registry=registry,
        )
