"""`anabranch kafka`: the embedded broker alone, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deploy.jar_download import class_path
from deploy.java import find_java
from deploy.kafka import LISTENS_ON, Java, prepare
from deploy.memory_broker import run_memory_broker
from deploy.ports import choose_port
from service.logs import configure_logs
from service.settings import DEFAULT_STATE, load_settings


def kafka(
    *,
    state: Annotated[Path, Parameter(help="The folder that keeps the data.")] = DEFAULT_STATE,
    port: Annotated[int, Parameter(help="The port; 0 takes a free one.")] = 9092,
    host: Annotated[str, Parameter(help="The address to listen on.")] = "127.0.0.1",
    in_memory: Annotated[
        bool, Parameter(help="A test broker instead, where no Java can run.", negative=())
    ] = False,
) -> None:
    """Run a real Apache Kafka (KRaft, one node) until it is stopped."""
    if in_memory:
        run_memory_broker()
        return
    port = choose_port(host, port, flag="--port")
    settings = load_settings(state=state)
    configure_logs(settings)
    embedded = settings.embedded
    java = Java(find_java(), class_path(embedded), embedded.kafka_heap_mb)
    folder = (state / "kafka").resolve()
    command = prepare(
        folder,
        java,
        host=host,
        port=port,
        controller_port=choose_port("127.0.0.1", 0, flag="--port"),
    )
    sys.stdout.write(f"{LISTENS_ON}{host}:{port}\n")
    sys.stdout.flush()
    os.chdir(folder)
    # The broker takes this process over: signals and the exit status are its own.
    os.execve(command[0], command, java.environment)  # noqa: S606  # a list, never a shell
