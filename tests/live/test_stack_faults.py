from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer

from deploy.plan import Part, Wishes, plan
from deploy.processes import PartError
from deploy.restarts import RestartRule
from deploy.stack import Stack
from deploy.state import open_state
from schemas.topics import EXPOSURES
from tests.live.clickhouse_fixture import ClickHouse
from tests.live.kafka_fixture import Broker
from tests.live.stack_fixture import FREE_PORTS, WholeStack, anabranch, eventually, is_gone
from tests.live.test_kafka_broker import values


async def test_stack_ends_with_the_reason_when_a_part_keeps_dying(
    kafka: Broker, clickhouse: ClickHouse, tmp_path: Path
) -> None:
    given = {
        **os.environ,
        "ANABRANCH_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "ANABRANCH_CLICKHOUSE__URL": clickhouse.url,
        "ANABRANCH_CLICKHOUSE__PASSWORD": clickhouse.password,
    }
    made = plan(tmp_path, Wishes(port=1), given)
    dying = made._replace(service=Part("service", ("service", "--prot", "1"), stop_seconds=1))
    said: list[str] = []
    stack = Stack(
        open_state(tmp_path),
        dying,
        given,
        lambda event: said.append(event.text),
        rule=RestartRule(deaths=3, first_wait=0.05),
    )
    with pytest.raises(PartError, match="3 times in 120 s: the stack ends") as caught:
        await stack.run()
    assert "--prot" in str(caught.value)
    assert str(tmp_path / "logs" / "service.log") in str(caught.value)
    assert sum("it is started again" in line for line in said) == 2
    assert not (tmp_path / "stack.json").exists()


CHILD = """
import os
from deploy import child
child.{how}(os.getppid())
os.execvp("sleep", ["sleep", "60"])
"""
PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", sys.argv[1]]).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["end_with", "fork_guard"])
def test_child_ends_with_a_parent_that_is_killed_even_after_it_became_another_program(
    how: str,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(how=how)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        eventually(lambda: child.name() == "sleep")
        parent.kill()
        eventually(lambda: is_gone(child.pid), seconds=5)


def test_up_names_a_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = anabranch("up", "--state", tmp_path / "file" / "state")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"anabranch: the state folder {tmp_path}/file/state cannot be")
    assert "--state names another" in answer.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(("--port", "70000"), "70000", id="a port too high"),
        pytest.param(("--traffic", "-1"), "--traffic", id="negative traffic"),
    ],
)
def test_up_refuses_a_flag_that_cannot_be(
    tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    answer = anabranch("up", "--state", tmp_path, *flags)
    assert answer.returncode != 0
    assert words in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


def test_up_stops_at_a_setting_that_does_not_exist(tmp_path: Path) -> None:
    answer = anabranch("up", "--state", tmp_path, environment={"ANABRANCH_KAFKA__BOOTSTRP": "x"})
    assert answer.returncode == 2
    assert "ANABRANCH_KAFKA__BOOTSTRAP" in answer.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """400 MB of their own, in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("a small disk cannot be mounted here: there is no mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_up_names_a_state_folder_that_is_read_only(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    answer = anabranch("up", "--detach", "--state", small_disk / "state", *FREE_PORTS)
    assert answer.returncode == 1
    assert f"{small_disk}/state cannot be written: Read-only file system" in answer.stderr


async def test_stack_survives_a_full_disk_once_there_is_space_again(small_disk: Path) -> None:
    stack, filler = WholeStack(small_disk / "state"), small_disk / "filler"
    fill(filler, small_disk, leave_mb=20)
    answer = stack.up()
    assert answer.returncode == 1
    assert f"the state folder {stack.state} has 2" in answer.stderr
    assert "MB are needed" in answer.stderr

    filler.unlink()
    assert stack.up().returncode == 0
    stored = produce_until_it_fails(stack.record["kafka"], filler, small_disk)
    # Why it ended stands in no log: those lie on the same disk.
    eventually(lambda: stack.status()["ready"] is False)
    assert stack.down().returncode == 0

    filler.unlink()
    assert stack.up().returncode == 0
    assert stored <= len(await values(stack.record["kafka"], EXPOSURES.name))
    assert stack.status()["ready"] is True
    assert stack.down().returncode == 0


def fill(filler: Path, disk: Path, leave_mb: int) -> None:
    free = psutil.disk_usage(str(disk)).free
    with filler.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, free - (leave_mb << 20))


def produce_until_it_fails(bootstrap: str, filler: Path, disk: Path) -> int:
    """Fill the disk under the broker; return how many records it acknowledged."""
    stored: list[bool] = []
    producer = Producer({"bootstrap.servers": bootstrap, "message.timeout.ms": 3000})
    while all(stored):
        producer.produce(
            EXPOSURES.name,
            bytes(100_000),
            partition=0,
            on_delivery=lambda error, message: stored.append(error is None),
        )
        producer.flush(10)
        if len(stored) == 1:
            fill(filler, disk, leave_mb=3)
    return sum(stored)
