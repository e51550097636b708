from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from deploy.bootstrap import private_uv, uv_environment
from deploy.wheel import WheelError, build, check
from tests.live.kafka_fixture import Broker
from tests.live.record_log import make_topic, numbers

PROGRAM = """
import importlib.util, sys
from anabranch import EmitterSettings, ExposureRef, KafkaSettings, SyncEmitter, TurnMetric
for absent in ("faust", "prometheus_client", "polars", "clickhouse_connect", "deploy", "schemas"):
    assert importlib.util.find_spec(absent) is None, absent
class Turn(TurnMetric):
    TOPIC = "from-the-wheel"
emitter = SyncEmitter(
    KafkaSettings(bootstrap=sys.argv[1]), settings=EmitterSettings(schema_ids={Turn.TOPIC: 1})
)
for number in range(100):
    emitter.emit(Turn(session="s", player="p", turn_ms=number, model_ms=1, bundle_tokens=1,
                      output_tokens=1, retries=0, fallbacks=0, tool_calls=0, acts=0, choices=0,
                      time_ticks=0))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"))


async def test_wheel_installs_alone_in_an_empty_environment_and_emits(
    wheel: Path, kafka: Broker, tmp_path: Path
) -> None:
    await make_topic(kafka, "from-the-wheel")
    uv = shutil.which("uv") or private_uv()
    # Outside the checkout and without its paths, so that nothing of it can be imported.
    environment = {
        name: value
        for name, value in uv_environment().items()
        if name in {"HOME", "PATH"}
        or name.startswith(("UV_", "PIP_", "SSL_"))
        or name.lower().endswith("_proxy")
    }
    place = tmp_path / "venv"
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(place), str(wheel)],
        [str(place / "bin" / "python"), "-W", "error", "-c", PROGRAM, kafka.bootstrap],
    ):
        done = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE
        )
        _, said = await done.communicate()
        assert done.returncode == 0, said.decode()
    assert numbers(kafka, "from-the-wheel") == {"s": [*range(100)]}


def test_wheel_with_more_than_the_sdk_is_refused(wheel: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(wheel, tmp_path))
    with ZipFile(copy, "a") as content:
        content.writestr("service/app.py", "")
    with pytest.raises(WheelError, match=r"holds more than the SDK: service/app.py"):
        check(copy)
