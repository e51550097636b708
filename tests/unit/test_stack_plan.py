from __future__ import annotations

from pathlib import Path

import pytest

from deploy.plan import Wishes, plan, variables
from deploy.restarts import RestartRule

STATE = Path("/state")
CREDENTIALS = STATE / "credentials.json"


def test_plan_starts_kafka_clickhouse_and_the_service_on_their_ports() -> None:
    made = plan(STATE, Wishes(port=1, kafka_port=2, clickhouse_port=3), given={})
    assert made.addresses == ("http://127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:3")
    assert made.kafka is not None
    assert made.kafka.arguments == ("kafka", "--state", "/state", "--port", "2")
    assert made.clickhouse is not None
    assert made.clickhouse.arguments == ("clickhouse", "--state", "/state", "--port", "3")
    assert made.service.arguments[:3] == ("service", "--state", "/state")
    assert made.service.arguments[3:] == ("--host", "127.0.0.1", "--port", "1")
    assert made.traffic is None


def test_plan_uses_a_kafka_that_is_there_and_starts_none() -> None:
    made = plan(STATE, Wishes(), {"ANABRANCH_KAFKA__BOOTSTRAP": "broker:9093"})
    assert made.kafka is None
    assert made.addresses.kafka == "broker:9093"
    assert made.clickhouse is not None


def test_plan_uses_a_clickhouse_that_is_there_and_starts_none() -> None:
    made = plan(STATE, Wishes(), {"ANABRANCH_CLICKHOUSE__URL": "https://there:8443"})
    assert made.clickhouse is None
    assert made.addresses.clickhouse == "https://there:8443"
    assert made.kafka is not None


def test_plan_does_not_start_the_memory_broker_again() -> None:
    made = plan(STATE, Wishes(kafka_in_memory=True), given={})
    assert made.kafka_in_memory
    assert made.kafka is not None
    assert made.kafka.arguments == ("kafka", "--in-memory")
    assert not made.kafka.restarts


def test_plan_prefers_a_kafka_that_is_there_to_the_memory_broker() -> None:
    made = plan(STATE, Wishes(kafka_in_memory=True), {"ANABRANCH_KAFKA__BOOTSTRAP": "broker:1"})
    assert not made.kafka_in_memory
    assert made.kafka is None


def test_plan_names_each_worker_alike_over_restarts_and_apart_from_another_stacks() -> None:
    made = plan(STATE, Wishes(worker_ports=(7, 8)), given={})
    assert [part.name for part, _ in made.workers] == ["worker-1", "worker-2"]
    assert [address for _, address in made.workers] == ["http://127.0.0.1:7", "http://127.0.0.1:8"]
    again = plan(STATE, Wishes(worker_ports=(9,)), given={})
    elsewhere = plan(Path("/other"), Wishes(worker_ports=(7,)), given={})
    names = [made.workers[0][0].arguments[4] for made in (made, again, elsewhere)]
    assert names[0] == names[1] != names[2]


def test_plan_adds_traffic_at_the_rate_asked_for() -> None:
    made = plan(STATE, Wishes(traffic=2.5), given={})
    assert made.traffic is not None
    assert made.traffic.arguments == ("simulate", "--state", str(STATE), "--rate", "2.5")


def test_variables_tell_every_address_and_where_the_keys_are() -> None:
    addresses = plan(STATE, Wishes(), given={}).addresses
    assert variables(addresses, CREDENTIALS, given={}) == {
        "ANABRANCH_KAFKA__BOOTSTRAP": "127.0.0.1:9092",
        "ANABRANCH_CLICKHOUSE__URL": "http://127.0.0.1:8123",
        "ANABRANCH_REGISTRY__URL": "http://127.0.0.1:8080",
        "ANABRANCH_SERVICE__PORT": "8080",
        "ANABRANCH_CREDENTIALS": "/state/credentials.json",
        "ANABRANCH_DEFINITIONS__FOLDER": "/state/definitions",
    }


def test_variables_keep_a_registry_that_is_there() -> None:
    given = {"ANABRANCH_REGISTRY__URL": "http://registry:8081"}
    told = variables(plan(STATE, Wishes(), given).addresses, CREDENTIALS, given)
    assert told["ANABRANCH_REGISTRY__URL"] == "http://registry:8081"


@pytest.mark.parametrize(
    ("password", "told"),
    [
        pytest.param({}, "", id="without a password"),
        pytest.param({"ANABRANCH_CLICKHOUSE__PASSWORD": "theirs"}, None, id="with a password"),
        pytest.param({"ANABRANCH_CREDENTIALS": "/theirs.json"}, None, id="with a file of keys"),
    ],
)
def test_variables_do_not_give_our_password_to_a_clickhouse_that_is_not_ours(
    password: dict[str, str], told: str | None
) -> None:
    given = {"ANABRANCH_CLICKHOUSE__URL": "http://there:8123", **password}
    made = variables(plan(STATE, Wishes(), given).addresses, CREDENTIALS, given)
    assert made.get("ANABRANCH_CLICKHOUSE__PASSWORD") == told


@pytest.mark.parametrize(
    ("died_at", "wait"),
    [
        pytest.param([100], 0.5, id="the first death"),
        pytest.param([100, 101], 1, id="the second"),
        pytest.param([100, 101, 103, 107], 4, id="the fourth"),
        pytest.param([100, 101, 103, 107, 115], None, id="five within two minutes"),
        pytest.param([100, 300, 500, 700, 900], 0.5, id="five, each after a good while"),
        pytest.param([100, 101, 103, 107, 220], 4, id="the first of five two minutes ago"),
    ],
)
def test_restart_rule_waits_longer_each_time_and_gives_up_on_the_fifth_death_in_two_minutes(
    died_at: list[float], wait: float | None
) -> None:
    assert RestartRule().wait(died_at) == wait
