"""`docs/metrics.md`: every metric there is, from the code that exports it.

`python -m deploy.metric_page` writes it, `--check` tells whether it is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from anabranch.metrics import describe_emitter, describe_experiments
from service.metrics import ServiceMetrics
from sinks.embedded.metrics import Metrics as EngineMetrics
from streams.metrics import WorkerMetrics

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"

# (the condition, what it means and what to do)
ALERTS = (
    (
        "`anabranch_worker_ready == 0` for a minute",
        "a worker waits for Kafka, ClickHouse or the registry: nothing is lost, nothing arrives",
    ),
    (
        "`/healthz` of a worker answers 503",
        "records wait, everything answers and nothing is applied: restart it",
    ),
    (
        "`anabranch_worker_lag_records` grows for ten minutes",
        "more comes in than is applied: add workers or partitions ([scaling](scaling.md))",
    ),
    (
        "`rate(anabranch_worker_dead_letters_total[5m]) > 0`",
        "somebody emits what cannot be read: `anabranch dead list` says who and why",
    ),
    (
        "`increase(anabranch_worker_lost_offsets_total[1h]) > 0`",
        "Kafka's retention was faster than the workers: events are gone",
    ),
    (
        "`anabranch_worker_self_check_differences > 0`",
        "the tables contradict each other: `anabranch verify` names the place",
    ),
    (
        "`increase(anabranch_worker_reformed_batches_total[10m]) > 0`",
        "a worker ended in the middle of a batch: harmless, but ask why",
    ),
    (
        "`anabranch_kill_switch_blind_seconds > 60`",
        "rules that stop harmful experiments see no data: ClickHouse is away or slow",
    ),
    (
        '`rate(anabranch_webhooks_total{outcome=~"given_up|no_room|lost_at_stop"}[1h]) > 0`',
        "nobody was told of something by webhook: the log has its id, the audit log the thing",
    ),
    (
        "`anabranch_definition_stale_seconds > 60`",
        "a process works with old definitions: Kafka or the topic is away; `/readyz` says which",
    ),
    (
        "p99 of `anabranch_worker_event_age_seconds` above 10 s",
        "reports are late: look at the lag, then at the insert times",
    ),
)


class Described(NamedTuple):
    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def page() -> str:
    engine = EngineMetrics(running=lambda: 0, waiting=lambda: 0)
    sections = (
        ("Workers", "each worker's own port, `/metrics`", described(WorkerMetrics().registry)),
        ("Service", "the service's `/metrics`", described(ServiceMetrics().registry)),
        (
            "Emitter",
            "whatever the service that emits exposes ([SDK](../README.md))",
            [Described(*metric) for metric in (*describe_emitter(), *describe_experiments())],
        ),
        ("Embedded ClickHouse", "its `/metrics`", described(engine.registry)),
    )
    lines = [
        "# Metrics",
        "",
        "Made from the code by `make schemas`; do not edit. Times are in seconds. Processes also",
        "export Prometheus's usual `process_...` and `python_...`.",
        "",
        "## What to watch",
        "",
        "| alert when | it means |",
        "|---|---|",
        *(f"| {condition} | {meaning} |" for condition, meaning in ALERTS),
        "",
    ]
    for title, where, metrics in sections:
        lines += [f"## {title}", "", f"Scraped from {where}.", ""]
        lines += ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{name}` | {kind} | {', '.join(labels)} | {meaning} |"
            for name, kind, labels, meaning in metrics
        ]
        lines.append("")
    return "\n".join(lines)


def described(registry: CollectorRegistry) -> Iterator[Described]:
    # Private: the registry shows a metric with labels only once one of them was used.
    collectors: Iterable[Any] = registry._collector_to_names
    for metric in collectors:
        if isinstance(metric, MetricWrapperBase):
            name = f"{metric._name}_total" if metric._type == "counter" else metric._name
            kind = str(metric._type)
            yield Described(name, kind, metric._labelnames, metric._documentation)


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print("docs/metrics.md does not follow from the code: make schemas")
        return 1
    PAGE.write_text(page())
    print(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
