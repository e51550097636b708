"""The service of the bench, whose schema registry our worker asks once for each schema."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from anabranch.settings import KafkaSettings
from deploy.ports import choose_port


@contextmanager
def own_registry(kafka: KafkaSettings, folder: Path) -> Iterator[str]:
    """Its address. Idle in between, so that it takes nothing from those who are measured."""
    port = choose_port("127.0.0.1", 0, flag="--port")
    url, output = f"http://127.0.0.1:{port}", folder / "service.out"
    command = [sys.executable, "-m", "deploy.main", "service", "--port", str(port), "--state"]
    with output.open("wb") as out:
        service = subprocess.Popen(
            [*command, str(folder / "service")],
            env={
                **os.environ,
                "ANABRANCH_KAFKA__BOOTSTRAP": kafka.bootstrap,
                "ANABRANCH_REGISTRY__URL": url,
                "ANABRANCH_SERVICE__OPEN_ACCESS": "true",
                "ANABRANCH_LOG_LEVEL": "warning",
            },
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while not _answers(url):
            if service.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start:\n{output.read_text()}")
            time.sleep(0.2)
        yield url
    finally:
        service.terminate()
        service.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/schemas/ids/1").is_success
    except httpx.TransportError:
        return False
