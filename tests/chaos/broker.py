"""A broker with two doors: one for the harness, and one for workers that is known by its proxy.

Kafka's clients come back to the address that a broker tells them, so a network that is to be cut
needs a listener that tells the proxy's. Run as a module of its own, this file becomes the broker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deploy.jar_download import class_path
from deploy.java import find_java
from deploy.kafka import Java, format_storage, properties, write_properties
from deploy.ports import choose_port
from service.settings import EmbeddedSettings
from tests.live.kafka_fixture import Broker

SHORTEST_SESSION_MS = 1_000


class TwoDoorBroker(Broker):
    """`bootstrap` leads straight to it; `workers_port` is where the proxy connects to."""

    def __init__(self, state: Path, proxy_port: int) -> None:
        super().__init__(state)
        self.workers_port = choose_port("127.0.0.1", 0, flag="port")
        ports = (self.port, self.workers_port, proxy_port)
        self._command = [sys.executable, "-m", __name__, str(state), *map(str, ports)]


def become_broker(state: Path, port: int, workers_port: int, proxy_port: int) -> None:
    embedded = EmbeddedSettings()
    java = Java(find_java(), class_path(embedded), embedded.kafka_heap_mb)
    controller_port = choose_port("127.0.0.1", 0, flag="port")
    usual = properties(host="127.0.0.1", port=port, controller_port=controller_port)
    said = {
        **usual,
        "listeners": f"{usual['listeners']},WORKERS://127.0.0.1:{workers_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},WORKERS://127.0.0.1:{proxy_port}",
        "listener.security.protocol.map": usual["listener.security.protocol.map"]
        + ",WORKERS:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "group.min.session.timeout.ms": str(SHORTEST_SESSION_MS),
        "transaction.max.timeout.ms": "60000",
    }
    folder = (state / "kafka").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = write_properties(folder / "server.properties", said)
    if not (folder / "data" / "meta.properties").exists():
        format_storage(folder, java, said)
    command = java.command("kafka.Kafka", configuration.name)
    os.chdir(folder)
    os.execve(command[0], command, java.environment)  # a list, never a shell


if __name__ == "__main__":
    become_broker(Path(sys.argv[1]), *map(int, sys.argv[2:]))
