"""What processes use: CPU with their children, and memory at its peak."""

from __future__ import annotations

from pathlib import Path

import psutil


def cpu(process: psutil.Process) -> float:
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        times = one.cpu_times()
        total += times.user + times.system
    return total


def busy() -> float:
    times = psutil.cpu_times()
    # Those of guests are in user time already.
    return float(times.user + times.nice + times.system)


def peak_rss_mb(process: psutil.Process) -> float:
    """Linux keeps it; elsewhere what is resident now has to do."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        status = Path(f"/proc/{one.pid}/status")
        lines = status.read_text().splitlines() if status.exists() else []
        peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
        total += peaks[0] if peaks else one.memory_info().rss
    return total / 1e6
