"""What the figures were measured on, and how they are kept."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

RESULTS = Path(__file__).parent / "results"

Runs = Mapping[str, Sequence[float]]


def facts() -> dict[str, str | int | float]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def keep(
    name: str, title: str, machine: Mapping[str, object], figures: Runs, notes: Sequence[str]
) -> None:
    """Write results/<name>.json and .md: every run, and min, median, max of each figure."""
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "bench": name,
        "machine": machine,
        "figures": {
            figure: {"min": min(runs), "median": median(runs), "max": max(runs), "runs": list(runs)}
            for figure, runs in figures.items()
        },
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=2) + "\n")
    lines = [f"# {title}", "", "| figure | min | median | max |", "|---|---:|---:|---:|"]
    lines += [
        f"| {figure} | {_shown(min(runs))} | {_shown(median(runs))} | {_shown(max(runs))} |"
        for figure, runs in figures.items()
    ]
    lines += ["", *notes, "", *(f"- {fact}: {value}" for fact, value in machine.items())]
    text = "\n".join(lines) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
