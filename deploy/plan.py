"""What a stack consists of: which parts are started, where they are, what they are told. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

KAFKA = "ANABRANCH_KAFKA__BOOTSTRAP"
CLICKHOUSE = "ANABRANCH_CLICKHOUSE__URL"
CLICKHOUSE_PASSWORD = "ANABRANCH_CLICKHOUSE__PASSWORD"  # noqa: S105  # a variable's name
REGISTRY = "ANABRANCH_REGISTRY__URL"
CREDENTIALS = "ANABRANCH_CREDENTIALS"
SERVICE_PORT = "ANABRANCH_SERVICE__PORT"
DEFINITIONS = "ANABRANCH_DEFINITIONS__FOLDER"

HOST = "127.0.0.1"


class Part(NamedTuple):
    """One process of the stack, and how it is treated."""

    name: str
    arguments: tuple[str, ...]
    stop_seconds: float  # from the polite signal to the last one
    restarts: bool = True


class Wishes(NamedTuple):
    """What the caller of `up` asked for. A port of 0 is any free one."""

    port: int = 8080
    kafka_port: int = 9092
    clickhouse_port: int = 8123
    traffic: float = 0
    kafka_in_memory: bool = False
    workers: int = 1
    worker_ports: tuple[int, ...] = ()
    """Of each worker's metrics and health; chosen when the start is certain."""


class Addresses(NamedTuple):
    service: str
    kafka: str
    clickhouse: str


class Plan(NamedTuple):
    """A store that is None is one that was there already."""

    addresses: Addresses
    kafka: Part | None
    clickhouse: Part | None
    service: Part
    workers: tuple[tuple[Part, str], ...]
    """Each with the address of its metrics and health."""
    traffic: Part | None
    kafka_in_memory: bool = False  # its address is known only once it runs


def plan(state: Path, wishes: Wishes, given: Mapping[str, str]) -> Plan:
    """`given` is the environment: a Kafka or ClickHouse named there is used, none is started."""
    return Plan(
        Addresses(
            service=f"http://{HOST}:{wishes.port}",
            kafka=given.get(KAFKA, f"{HOST}:{wishes.kafka_port}"),
            clickhouse=given.get(CLICKHOUSE, f"http://{HOST}:{wishes.clickhouse_port}"),
        ),
        kafka=None if KAFKA in given else kafka_part(state, wishes),
        clickhouse=None
        if CLICKHOUSE in given
        else Part(
            "clickhouse",
            ("clickhouse", "--state", str(state), "--port", str(wishes.clickhouse_port)),
            stop_seconds=30,  # of which running queries get 20
        ),
        service=Part(
            "service",
            ("service", "--state", str(state), "--host", HOST, "--port", str(wishes.port)),
            stop_seconds=25,  # of which running requests get 15
        ),
        workers=tuple(
            (worker_part(state, number, port), f"http://{HOST}:{port}")
            for number, port in enumerate(wishes.worker_ports, start=1)
        ),
        traffic=Part(
            "traffic",
            ("simulate", "--state", str(state), "--rate", str(wishes.traffic)),
            stop_seconds=10,
        )
        if wishes.traffic
        else None,
        kafka_in_memory=wishes.kafka_in_memory and KAFKA not in given,
    )


def kafka_part(state: Path, wishes: Wishes) -> Part:
    if wishes.kafka_in_memory:
        # Started again it would be another, empty broker on another port.
        return Part("kafka", ("kafka", "--in-memory"), stop_seconds=5, restarts=False)
    arguments = ("kafka", "--state", str(state), "--port", str(wishes.kafka_port))
    return Part("kafka", arguments, stop_seconds=30)


def worker_part(state: Path, number: int, port: int) -> Part:
    # The same over restarts, and with it the worker's place in the group; of this stack alone, for
    # two of one name on one Kafka would push each other out.
    name = f"worker-{number}-{hashlib.sha256(str(state).encode()).hexdigest()[:6]}"
    arguments = ("worker", "--state", str(state), "--name", name, "--port", str(port))
    return Part(f"worker-{number}", arguments, stop_seconds=35)  # what is intended gets 10 of them


def variables(addresses: Addresses, credentials: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What every part and every other shell is told of this stack."""
    told = {
        KAFKA: addresses.kafka,
        CLICKHOUSE: addresses.clickhouse,
        REGISTRY: given.get(REGISTRY, addresses.service),
        SERVICE_PORT: addresses.service.rpartition(":")[2],
        CREDENTIALS: str(credentials),
        DEFINITIONS: given.get(DEFINITIONS, str(credentials.parent / "definitions")),
    }
    if CLICKHOUSE in given and not {CLICKHOUSE_PASSWORD, CREDENTIALS} & given.keys():
        # The password in our own credentials file is that of our ClickHouse, not of theirs.
        told[CLICKHOUSE_PASSWORD] = ""
    return told
