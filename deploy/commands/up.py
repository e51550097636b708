"""`anabranch up`: Kafka, ClickHouse and the service, on this machine."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploy.detached import start_detached
from deploy.plan import CLICKHOUSE, CREDENTIALS, HOST, KAFKA, Wishes, plan
from deploy.ports import choose_ports
from deploy.stack import Stack
from deploy.state import StateFolder, make_credentials, open_state, state_to_myself
from deploy.steps import Event, Report, lines_to, to_all, to_pipe, to_screen
from service.errors import CommandError
from service.logs import configure_logs
from service.settings import DEFAULT_STATE, load_settings


def up(
    *,
    state: Annotated[Path, Parameter(help="The folder for data, keys and logs.")] = DEFAULT_STATE,
    port: Annotated[int, Parameter(help="The service's port; 0 takes a free one.")] = 8080,
    kafka_port: Annotated[int, Parameter(help="Kafka's port; 0 takes a free one.")] = 9092,
    clickhouse_port: Annotated[
        int, Parameter(help="ClickHouse's port; 0 takes a free one.")
    ] = 8123,
    workers: Annotated[
        int, Parameter(help="Workers that move events into ClickHouse; 0 leaves them in Kafka.")
    ] = 1,
    traffic: Annotated[float, Parameter(help="Simulated events per second; 0 for none.")] = 0,
    kafka_in_memory: Annotated[
        bool, Parameter(help="A test broker instead of Kafka, where no Java can run.", negative=())
    ] = False,
    detach: Annotated[
        bool, Parameter(help="Return when all is ready and leave it running.", negative=())
    ] = False,
    report_to: Annotated[int | None, Parameter(show=False)] = None,
) -> None:
    """Start everything, print the addresses, and end everything on Ctrl-C.

    A Kafka or ClickHouse that ANABRANCH_KAFKA__BOOTSTRAP or ANABRANCH_CLICKHOUSE__URL names is
    used, and none of our own is started in its place.
    """
    if workers < 0 or not 0 <= traffic < math.inf:
        raise CommandError("--workers and --traffic count something: 0 or more")
    wishes = Wishes(port, kafka_port, clickhouse_port, traffic, kafka_in_memory, workers)
    folder = open_state(state)
    if detach:
        start_detached(folder, as_arguments(folder, wishes), to_screen())
    elif report_to is None:
        run_and_log(folder, wishes, to_screen())
    else:
        try:
            run_and_log(folder, wishes, to_pipe(report_to))
        except CommandError as error:
            raise SystemExit(error.status) from error  # told by the pipe and the log


def as_arguments(folder: StateFolder, wishes: Wishes) -> list[str]:
    given = {
        "--state": folder.root,
        "--port": wishes.port,
        "--kafka-port": wishes.kafka_port,
        "--clickhouse-port": wishes.clickhouse_port,
        "--workers": wishes.workers,
        "--traffic": wishes.traffic,
    }
    in_memory = ["--kafka-in-memory"] if wishes.kafka_in_memory else []
    return [*(str(word) for pair in given.items() for word in pair), *in_memory]


def run_and_log(folder: StateFolder, wishes: Wishes, screen: Report) -> None:
    with (folder.logs / "stack.log").open("a") as log:
        report = to_all(screen, lines_to(log, now, with_failure=True))
        try:
            with state_to_myself(folder):
                run(folder, wishes, report)
        except CommandError as error:
            report(Event("failed", str(error)))
            raise


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} "


def run(folder: StateFolder, wishes: Wishes, report: Report) -> None:
    # What a stack that was killed said of its addresses must not be taken for ours.
    folder.record.unlink(missing_ok=True)
    given = dict(os.environ)
    # A wrong variable stops the start before anything runs.
    settings = load_settings(given, state=folder.root)
    # Of this process alone, which tells by its report what goes well.
    configure_logs(settings.model_copy(update={"log_format": "text", "log_level": "warning"}))
    if CREDENTIALS not in given:
        make_credentials(folder.credentials)
    wishes = with_ports(wishes, given)
    stack = Stack(folder, plan(folder.root, wishes, given), given, report)
    asyncio.run(stack.run())


def with_ports(wishes: Wishes, given: Mapping[str, str]) -> Wishes:
    """Each port that a part of ours will listen on, chosen and found free."""
    wanted = {"--port": wishes.port}
    if KAFKA not in given and not wishes.kafka_in_memory:  # which takes a port of its own choice
        wanted["--kafka-port"] = wishes.kafka_port
    if CLICKHOUSE not in given:
        wanted["--clickhouse-port"] = wishes.clickhouse_port
    workers = [f"worker {number}" for number in range(1, wishes.workers + 1)]
    chosen = choose_ports(HOST, {**wanted, **dict.fromkeys(workers, 0)})
    return wishes._replace(
        port=chosen["--port"],
        kafka_port=chosen.get("--kafka-port", wishes.kafka_port),
        clickhouse_port=chosen.get("--clickhouse-port", wishes.clickhouse_port),
        worker_ports=tuple(chosen[worker] for worker in workers),
    )
