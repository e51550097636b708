"""The figures of all runs as a table and as JSON, and the aims they are held against."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from bench.engine.contestants import CONTESTANTS, Contestant
from bench.engine.measure import Figures
from bench.machine import RESULTS

Runs = Mapping[str, Sequence[Figures]]

OURS = "ours"
# Ours against these, as the median of rates.
AIMS = (("faust", 30.0), ("quix", 6.0), ("jvm", 1.4), ("discard", 0.65))
MEMORY_AIM_MB = 700
NOTES = """
The job: read turn metrics (16 fields, one of them an array of records; 163 bytes each before
compression, zstd batches of 512 KB, four partitions), decode them, count and sum by minute,
experiment, variation and locale, put raw rows and sums into ClickHouse; counts, sums and ids are
checked against the truth after every run. Broker, ClickHouse and contestant share the machine.

Time runs from the moment a contestant has its partitions (Quix Streams does not tell: its first
record) until its last insert is acknowledged; ours, which does not end, is asked for from outside
every 50 ms. Start-up is outside for everybody, warming up (the JVM's above all) inside. CPU is in
microseconds an event within that time, of the process, of ClickHouse and of the broker; memory is
the peak of what was resident. The order changes with each run. Peers commit after their inserts: at
least once; bytewax keeps no offsets here.
"""


def of(figures: Sequence[Figures], value: Callable[[Figures], float]) -> float:
    return median(value(run) for run in figures)


def rate(figures: Sequence[Figures]) -> float:
    return of(figures, lambda run: run.rate)


def table(runs: Runs, absent: Mapping[str, str]) -> str:
    lines = [
        "| set-up | events/s, median | min to max | ours is | client CPU | ClickHouse CPU |"
        " broker CPU | all CPU | peak memory, MB | others, cores | events |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        _line(contestant, runs[contestant.name], runs.get(OURS))
        for contestant in CONTESTANTS
        if runs.get(contestant.name)
    ]
    lines += [
        f"| {contestant.title} | skipped: {absent[contestant.name]} |||||||||"
        for contestant in CONTESTANTS
        if contestant.name in absent
    ]
    return "\n".join(lines)


def _line(
    contestant: Contestant, figures: Sequence[Figures], ours: Sequence[Figures] | None
) -> str:
    rates = [run.rate for run in figures]
    ratio = f"{rate(ours) / rate(figures):.2f}x" if ours else ""
    cells = [
        contestant.title,
        f"{rate(figures):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        ratio,
        f"{of(figures, lambda run: run.client_cpu_us):.2f}",
        f"{of(figures, lambda run: run.clickhouse_cpu_us):.2f}",
        f"{of(figures, lambda run: run.broker_cpu_us):.2f}",
        f"{of(figures, lambda run: run.all_cpu_us):.2f}",
        f"{max(run.peak_rss_mb for run in figures):,.0f}",
        f"{of(figures, lambda run: run.others_cores):.2f}",
        f"{figures[0].events:,}",
    ]
    return f"| {' | '.join(cells)} |"


def aims(runs: Runs) -> list[str]:
    ours = runs.get(OURS)
    if not ours:
        return []
    lines = []
    for name, factor in AIMS:
        if figures := runs.get(name):
            ratio = rate(ours) / rate(figures)
            lines.append(f"{_met(ratio >= factor)}: {ratio:.2f} times {name}, aim {factor:g}")
    peak = max(run.peak_rss_mb for run in ours)
    lines.append(f"{_met(peak < MEMORY_AIM_MB)}: {peak:,.0f} MB at most, aim {MEMORY_AIM_MB}")
    return lines


def _met(met: bool) -> str:
    return "met" if met else "NOT MET"


def write(runs: Runs, absent: Mapping[str, str], machine: Mapping[str, object]) -> None:
    """results/engine.json with every run, and engine.md with the table."""
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "bench": "engine",
        "machine": machine,
        "skipped": absent,
        "runs": {
            name: [{"rate": run.rate, **run._asdict()} for run in figures]
            for name, figures in runs.items()
        },
    }
    (RESULTS / "engine.json").write_text(json.dumps(kept, indent=2) + "\n")
    most = max(len(figures) for figures in runs.values())
    parts = [
        f"# From Kafka to ClickHouse, beside the peers ({most} runs each)",
        table(runs, absent),
        NOTES.strip(),
        "\n".join(f"- {line}" for line in aims(runs)),
        "\n".join(f"- {fact}: {value}" for fact, value in machine.items()),
    ]
    (RESULTS / "engine.md").write_text("\n\n".join(part for part in parts if part) + "\n")
