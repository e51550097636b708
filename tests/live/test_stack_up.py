from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from clickhouse_connect.driver.client import Client

from schemas.topics import EXPOSURES
from tests.live.processes import ANABRANCH
from tests.live.stack_fixture import (
    FREE_PORTS,
    WholeStack,
    all_gone,
    anabranch,
    eventually,
)

PARTITION = TopicPartition(EXPOSURES.name, 0)


def database(stack: WholeStack) -> Client:
    password = json.loads((stack.state / "credentials.json").read_text())["clickhouse"]
    return clickhouse_connect.get_client(
        dsn=stack.record["clickhouse"], username="default", password=password
    )


def test_up_returns_when_all_answers_and_says_where(stack: WholeStack) -> None:
    said = stack.status()
    assert said["ready"] is True
    assert set(said) == {"state", "ready", "service", "kafka", "clickhouse", "processes"}
    parts = {part["name"] for part in said["processes"]}
    assert parts == {"kafka", "clickhouse", "service", "worker-1"}
    assert all(part["rss_mb"] > 10 for part in said["processes"])
    assert httpx.get(f"{said['service']}/readyz").status_code == 200
    assert stat.S_IMODE((stack.state / "credentials.json").stat().st_mode) == 0o600
    for address in (said["service"], said["kafka"], said["clickhouse"]):
        assert address in stack.log


def test_up_refuses_a_state_folder_that_has_a_stack_and_says_where_that_is(
    stack: WholeStack,
) -> None:
    answer = anabranch("up", "--state", stack.state, *FREE_PORTS)
    assert answer.returncode == 1
    assert f"pid {stack.record['pid']}" in answer.stderr
    assert stack.record["service"] in answer.stderr
    assert stack.status()["ready"] is True


@pytest.mark.parametrize(
    "flags",
    [pytest.param((), id="in the foreground"), pytest.param(("--detach",), id="detached")],
)
def test_up_names_the_port_that_is_taken_and_who_has_it_before_it_starts_anything(
    stack: WholeStack, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    port = stack.record["kafka"].rpartition(":")[2]
    answer = anabranch("up", "--state", tmp_path, "--port", "0", "--kafka-port", port, *flags)
    assert answer.returncode == 1
    assert f"port {port} on 127.0.0.1" in answer.stderr
    assert f"pid {stack.pid('kafka')}" in answer.stderr
    assert "--kafka-port names another" in answer.stderr
    assert "--kafka-port names another" in WholeStack(tmp_path).log
    assert not (tmp_path / "kafka").exists()


def test_up_uses_stores_that_are_there_and_ends_only_its_own_on_ctrl_c(
    stack: WholeStack, tmp_path: Path
) -> None:
    there = stack.record["environment"]
    with subprocess.Popen(
        [*ANABRANCH, "up", "--state", str(tmp_path), "--port", "0", "--workers", "2"],
        env={**os.environ, **there},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as second:
        beside = WholeStack(tmp_path)
        eventually(lambda: "Anabranch is ready" in beside.log)
        said = beside.status()
        assert said["ready"] is True
        parts = [part["name"] for part in said["processes"]]
        assert parts == ["service", "worker-1", "worker-2"]
        assert said["service"] != stack.record["service"]
        pids = beside.pids()
        second.send_signal(signal.SIGINT)
        output, _ = second.communicate(timeout=30)
    assert second.returncode == 0
    assert f"Kafka: the one at {stack.record['kafka']} is used" in output
    assert f"ClickHouse: the one at {stack.record['clickhouse']} is used" in output
    assert all_gone(pids)
    assert stack.status()["ready"] is True


def test_stack_starts_a_killed_broker_again_on_its_port_and_says_so(stack: WholeStack) -> None:
    before, address = stack.pid("kafka"), stack.record["kafka"]
    stack.kill("kafka")
    eventually(lambda: stack.pid("kafka") != before and stack.status()["ready"])
    (kafka,) = (part for part in stack.status()["processes"] if part["name"] == "kafka")
    assert kafka["restarts"] == 1
    assert stack.record["kafka"] == address
    assert "kafka was killed by SIGKILL; it is started again in 0.5 s (restart 1)" in stack.log


async def test_stack_keeps_records_and_rows_over_down_and_up(stack: WholeStack) -> None:
    async with AIOKafkaProducer(bootstrap_servers=stack.record["kafka"], acks="all") as producer:
        sent = await producer.send_and_wait(EXPOSURES.name, b"kept", partition=0)
    with database(stack) as client:
        client.command("CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n")
        client.insert("kept", [[42]])
    pids = [*stack.pids(), stack.record["pid"]]

    assert stack.down().returncode == 0
    assert all_gone(pids)
    assert stack.status() == {
        "state": str(stack.state),
        "ready": False,
        "service": None,
        "kafka": None,
        "clickhouse": None,
        "processes": [],
    }
    assert "no stack runs" in stack.down().stdout
    keys = (stack.state / "credentials.json").read_text()
    assert stack.up().returncode == 0
    assert (stack.state / "credentials.json").read_text() == keys

    async with AIOKafkaConsumer(bootstrap_servers=stack.record["kafka"]) as consumer:
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, sent.offset)
        record = await consumer.getone()
    assert record.value == b"kept"
    with database(stack) as client:
        assert client.query("SELECT n FROM kept").result_rows == [(42,)]


def test_stack_leaves_nothing_behind_when_it_is_killed(stack: WholeStack) -> None:
    pids = stack.pids()
    os.kill(stack.record["pid"], signal.SIGKILL)
    eventually(lambda: all_gone(pids), seconds=5)
    assert stack.status()["ready"] is False
    answer = stack.down()
    assert answer.returncode == 0
    assert "was gone already" in answer.stdout
    assert not (stack.state / "stack.json").exists()
