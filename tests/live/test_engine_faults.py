"""One fault at a time: what it may cost, and that everything is stored once after it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.chaos import faults
from tests.chaos.faults import Fault
from tests.chaos.house import SESSION_SECONDS, ChaosWorker, House, opened
from tests.chaos.running import Run
from tests.live.long_tests import long
from tests.live.worker_fixture import wait_until


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Two workers, and traffic with poison in it that never ends."""
    with (
        opened(tmp_path_factory.mktemp("faults") / "house", workers=2) as house,
        Run(house, seed=5, rate=500, quiet=True) as run,
    ):
        yield run


def _all_well_after(run: Run, name: str, fault: faults.Break) -> bool:
    run.round([Fault(name, "worker", fault)])
    found, run.differences = run.differences, []
    assert not found, "\n".join(found)
    return True


@pytest.mark.parametrize(
    "step",
    [
        "after_intent",
        pytest.param("after_dead_letters", marks=long),
        "after_turn_metrics",
        pytest.param("after_metric_windows", marks=long),
        "after_batches",
        "during_an_insert",
        pytest.param("before_confirmation", marks=long),
    ],
)
def test_events_are_stored_once_when_a_worker_crashes(run: Run, step: str) -> None:
    assert _all_well_after(run, step, faults.crash_at(step, 1))


def test_events_are_stored_once_when_a_frozen_worker_wakes_up_after_its_session(run: Run) -> None:
    assert _all_well_after(run, "frozen", faults.worker_frozen)


def test_events_are_stored_once_when_answers_of_clickhouse_are_lost(run: Run) -> None:
    assert _all_well_after(run, "answers lost", faults.clickhouse_answers_lost)


def test_events_are_stored_once_when_clickhouse_dies_twice(run: Run) -> None:
    assert _all_well_after(run, "killed twice", faults.clickhouse_killed_twice)


def test_partition_is_read_on_when_it_was_held_back_as_its_worker_was_fenced(run: Run) -> None:
    def fenced_while_held_back(house: House, _: random.Random) -> Iterator[float]:
        usual, house.workers = house.workers, []
        for worker in usual:
            worker.stop()
        held = ChaosWorker(house, "held", BATCH_ROWS=50)
        held.start()
        house.workers = [held]
        wait_until(lambda: held.metric("anabranch_worker_partitions") > 0)
        house.clickhouse_proxy.is_cut = True
        wait_until(lambda: held.metric("anabranch_worker_held_back_partitions") > 0)
        held.freeze()
        yield SESSION_SECONDS + 2
        held.thaw()
        house.heal()
        run.settle_and_look()  # by this worker alone
        held.stop()
        house.workers = usual
        for worker in usual:
            worker.start()

    assert _all_well_after(run, "held back", fenced_while_held_back)


def test_rebalance_waits_for_the_broker_when_it_goes_away_meanwhile(run: Run) -> None:
    """Past the client's own patience, with workers in the middle of taking up partitions."""

    def away(house: House, _: random.Random) -> Iterator[float]:
        for worker in house.workers:
            worker.kill()
        for worker in house.workers:
            worker.start()
        # One that never reached Kafka would end: whoever runs it starts it again.
        wait_until(lambda: all(w.metric("anabranch_worker_partitions") for w in house.workers))
        house.kafka_proxy.hold()
        yield 20.0
        house.kafka_proxy.heal()

    assert _all_well_after(run, "away", away)


def test_worker_waits_for_kafka_when_it_starts_before_it(run: Run) -> None:
    def early(house: House, _: random.Random) -> Iterator[float]:
        worker = house.workers[0]
        worker.stop()
        house.kafka_proxy.cut()
        worker.start()
        yield 4.0
        assert worker.runs, worker.log_of_this_life
        answer = worker.get("/readyz")
        assert answer.status_code == 503
        assert "bootstrap" in answer.json()["dependencies"]["kafka"]["reason"]
        house.heal()

    assert _all_well_after(run, "early", early)


def test_worker_stops_when_kafka_is_away(run: Run) -> None:
    def late(house: House, _: random.Random) -> Iterator[float]:
        worker = house.workers[0]
        house.kafka_proxy.cut()
        yield 1.0
        assert worker.stop(timeout=60) == 0
        house.heal()
        worker.start()

    assert _all_well_after(run, "late", late)


def test_nothing_is_formed_again_when_workers_are_restarted_one_by_one(run: Run) -> None:
    name = "anabranch_worker_reformed_batches_total"

    def rolling(house: House, _: random.Random) -> Iterator[float]:
        for worker in house.workers:
            others = {w: w.metric(name) for w in house.workers if w is not worker}
            assert worker.stop() == 0
            yield 2.0
            assert all(w.metric(name) == before for w, before in others.items())
            worker.start()
            yield 2.0
            assert worker.metric(name) == 0

    assert _all_well_after(run, "rolling", rolling)
