"""What the embedded ClickHouse counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    def __init__(self, *, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.queries = Counter(
            "anabranch_clickhouse_queries",
            "Queries that ended, by kind (select, insert, other) and outcome"
            " (ok, failed: an error of the query, cancelled, refused: no place or not allowed).",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "anabranch_clickhouse_query_seconds",
            "From the whole request read until its last result byte was sent, by kind.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rows = Counter(
            "anabranch_clickhouse_inserted_rows",
            "Rows written by inserts, those of dependent materialized views included; a repeated"
            " insert that the engine recognised by its token counts again.",
            registry=self.registry,
        )
        self.bytes = Counter(
            "anabranch_clickhouse_insert_body_bytes",
            "Bytes of insert data received, after decompression.",
            registry=self.registry,
        )
        running_now = Gauge(
            "anabranch_clickhouse_running_queries",
            "Queries in the engine now.",
            registry=self.registry,
        )
        running_now.set_function(running)
        waiting_now = Gauge(
            "anabranch_clickhouse_waiting_queries",
            "Queries that wait for a place in the engine now.",
            registry=self.registry,
        )
        waiting_now.set_function(waiting)
