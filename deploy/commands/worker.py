"""`anabranch worker`: one worker, which moves events from Kafka into ClickHouse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service.settings import DEFAULT_STATE
from streams.huge_pages import use_huge_pages


def worker(
    *,
    name: Annotated[
        str | None,
        Parameter(
            help="Stays the same over restarts: the worker then keeps its place in the group."
        ),
    ] = None,
    host: Annotated[str | None, Parameter(help="The address for metrics and health.")] = None,
    port: Annotated[int | None, Parameter(help="Their port; 0 takes a free one.")] = None,
    state: Annotated[Path, Parameter(help="The state folder of the stack.")] = DEFAULT_STATE,
) -> None:
    """Run one worker: events from Kafka into raw rows, windows and sums by unit, exactly once.

    As many as there are partitions may run; Kafka shares the partitions out among them. It waits
    for Kafka, ClickHouse and the schema registry where they are away, and drops nothing meanwhile.
    SIGTERM applies what is intended, hands its partitions over and ends.
    """
    use_huge_pages()
    # Only then: what was imported before would be imported twice.
    from deploy.worker_process import run

    run(name, host, port, state)
