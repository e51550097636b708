"""`anabranch status`: whether the stack runs, where, and with what."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from deploy.running import StackSeen, look_at
from deploy.state import StateFolder
from service.settings import DEFAULT_STATE


def status(
    *,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
    json_output: Annotated[
        bool, Parameter(name="--json", help="One JSON object.", negative=())
    ] = False,
) -> None:
    """Show what runs. The exit code is 0 when everything answers, else 1."""
    seen = look_at(StateFolder(state.resolve()))
    if json_output:
        print(json.dumps(as_json(seen)))
    else:
        show(seen, Console(highlight=False, soft_wrap=True))
    sys.exit(0 if seen.ready else 1)


def as_json(seen: StackSeen) -> dict[str, object]:
    return {
        "state": str(seen.state),
        "ready": seen.ready,
        "service": seen.service,
        "kafka": seen.kafka,
        "clickhouse": seen.clickhouse,
        "processes": [part._asdict() for part in seen.processes],
    }


def show(seen: StackSeen, console: Console) -> None:
    for problem in seen.problems:
        console.print(f"not ready: {problem}" if seen.runs else problem, markup=False)
    if not seen.runs:
        return
    for name in ("service", "kafka", "clickhouse"):
        console.print(f"{name:<12} {getattr(seen, name)}", markup=False)
    table = Table("process", "pid", "restarts", "memory", box=None, pad_edge=False)
    for part in seen.processes:
        table.add_row(part.name, str(part.pid), str(part.restarts), f"{part.rss_mb} MB")
    console.print(table)
