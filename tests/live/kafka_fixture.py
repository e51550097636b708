"""A real broker for the live tests: one a session, and one of its own for tests that break it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from anabranch.settings import KafkaSettings
from deploy.ports import choose_port
from tests.live.processes import ANABRANCH, AnabranchProcess

COMMAND = (*ANABRANCH, "kafka")


class Broker(AnabranchProcess):
    """The process `anabranch kafka`. It keeps its port and its data over stop and start."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port = choose_port("127.0.0.1", 0, flag="port")
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.settings = KafkaSettings(bootstrap=self.bootstrap)
        super().__init__(
            *("kafka", "--state", str(state), "--port", str(self.port)),
            output=state / "kafka.out",
        )

    def answers(self) -> bool:
        # The broker opens its port last, when it is ready to take requests.
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Shared: make topics of your own, never stop it."""
    broker = Broker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Broker]:
    """One that a test may stop, kill and start again."""
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()
