"""The embedded Kafka: one real broker in KRaft mode, its data in the state folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from service.errors import CommandError

LISTENS_ON = "kafka listens on "  # what `anabranch kafka` prints before its address
LOGGING = Path(__file__).with_name("kafka-log4j2.properties")


class Java(NamedTuple):
    """What runs the broker's classes."""

    program: Path
    class_path: Sequence[Path]
    heap_mb: int

    @property
    def environment(self) -> dict[str, str]:
        # In the locale C, Java cannot open a path that holds more than ASCII.
        return {**os.environ, "LC_ALL": "C.UTF-8"}

    def command(self, main: str, *arguments: str) -> list[str]:
        return [
            str(self.program),
            f"-Xmx{self.heap_mb}m",
            "-XX:+UseSerialGC",  # one collector thread: the machine is shared with the database
            "-XX:+ExitOnOutOfMemoryError",  # a broker that limps is worse than one restarted
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={LOGGING.as_uri()}",
            "-cp",
            os.pathsep.join(map(str, self.class_path)),
            main,
            *arguments,
        ]


def properties(*, host: str, port: int, controller_port: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # The port of the controller may differ at every start: only the voter's id is stored.
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        # Below the working directory: a comma in a whole path would make two of it, and Java reads
        # this file as Latin-1.
        "log.dirs": "data",
        "auto.create.topics.enable": "false",
        "num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",  # 50 by default: half of a cold start
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "100",  # 3 s by default, for every test and restart
        # How long a killed broker's successor is turned away as its double; 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "1000",
        "message.max.bytes": "10485760",
        "log.retention.check.interval.ms": "60000",
        "log.cleaner.dedupe.buffer.size": str(16 << 20),  # 128 MB of the heap by default
    }


def prepare(folder: Path, java: Java, *, host: str, port: int, controller_port: int) -> list[str]:
    """Make the folder ready and return the command of the broker, to be run in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        said = properties(host=host, port=port, controller_port=controller_port)
        configuration = write_properties(folder / "server.properties", said)
        if not (folder / "data" / "meta.properties").exists():
            format_storage(folder, java, said)
    except OSError as error:
        raise CommandError(
            f"Kafka's data folder {folder} cannot be written: {error.strerror}"
        ) from error
    return java.command("kafka.Kafka", configuration.name)


def format_storage(folder: Path, java: Java, said: Mapping[str, str]) -> None:
    """Aside and then renamed: a format cut off half-way would else be taken for a whole one."""
    fresh = folder / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    aside = write_properties(folder / "format.properties", {**said, "log.dirs": fresh.name})
    answer = subprocess.run(
        java.command(
            *("kafka.tools.StorageTool", "format"),
            *("--config", aside.name, f"--cluster-id={cluster_id()}"),
        ),
        cwd=folder,
        env=java.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        last = "\n".join((answer.stdout + answer.stderr).splitlines()[-5:])
        raise CommandError(f"Kafka could not format its storage in {fresh}:\n{last}")
    aside.unlink()
    fresh.rename(folder / "data")


def cluster_id() -> str:
    """May begin with a hyphen, which a word of its own would make an option of."""
    return urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")


def write_properties(path: Path, said: Mapping[str, str]) -> Path:
    path.write_text("".join(f"{name}={value}\n" for name, value in said.items()))
    return path
