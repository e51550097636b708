"""A Kafka of the bench's own, on a free port and in a temporary folder."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anabranch.settings import KafkaSettings
from deploy.ports import choose_port
from service.settings import TopicSettings
from streams.topic_admin import ensure_topics


@contextmanager
def own_kafka() -> Iterator[KafkaSettings]:
    """With every topic of the catalogue."""
    with own_broker() as (settings, _):
        yield settings


@contextmanager
def own_broker() -> Iterator[tuple[KafkaSettings, subprocess.Popen[bytes]]]:
    """The same, with its process, whose CPU may be asked for."""
    port = choose_port("127.0.0.1", 0, flag="--port")
    settings = KafkaSettings(bootstrap=f"127.0.0.1:{port}")
    command = [sys.executable, "-m", "deploy.main", "kafka", "--port", str(port), "--state"]
    with tempfile.TemporaryDirectory(prefix="anabranch-bench-") as state:
        output = Path(state) / "kafka.out"
        with output.open("wb") as out:
            broker = subprocess.Popen([*command, state], stdout=out, stderr=subprocess.STDOUT)
        try:
            _make_topics(settings, broker, output)
            yield settings, broker
        finally:
            broker.terminate()
            broker.wait(30)


def _make_topics(
    settings: KafkaSettings, broker: subprocess.Popen[bytes], output: Path, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            asyncio.run(ensure_topics(settings, TopicSettings()))
        except Exception as error:  # whatever it says, it is not ready
            if broker.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the broker did not start:\n{output.read_text()}") from error
            time.sleep(0.3)
        else:
            return
