"""`anabranch rebuild` beside a worker and traffic: nothing is lost or twice, whatever dies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import RecordsToDelete

from anabranch import Exposure
from anabranch.settings import RegistrySettings
from streams.rebuild.running import Rebuild
from streams.replay_headers import Origin, replay_headers
from streams.settings import WorkerSettings
from streams.topic_admin import admin_client
from tests.chaos.crashing_worker import STATUS as WORKER_CRASHED
from tests.chaos.events import ABORTED
from tests.live.crashing_rebuild import STATUS as CRASHED
from tests.live.long_tests import long
from tests.live.rebuild_house import SETTINGS, House, opened
from tests.live.worker_fixture import wait_until


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("rebuild")) as house:
        yield house


@pytest.fixture
def house(open_house: House) -> Iterator[House]:
    """With traffic going on, and nothing left of an earlier rebuild."""
    yield open_house
    open_house.rebuilt("--clean", "--yes")


class _Unseen:
    def phase(self, text: str) -> None: ...
    def expect(self, what: str, records: int) -> None: ...
    def advance(self, what: str, records: int) -> None: ...


async def delete_half(house: House) -> None:
    """Or more, of what every partition holds; the log then begins in the middle of some range."""
    bounds = house.around.asked(
        "SELECT topic, partition, max(last) FROM batches GROUP BY topic, partition"
    )
    async with admin_client(house.around.kafka.settings) as admin:
        gone = {
            KafkaTopicPartition(topic, number): RecordsToDelete(last * 2 // 3 + 1)
            for topic, number, last in bounds
        }
        await admin.delete_records(gone)


def test_rebuild_gives_the_same_tables_while_a_worker_goes_on(house: House) -> None:
    printed = house.rebuilt("--from", "EARLIEST", "--yes")
    assert "the old tables are in anabranch_rebuild" in printed
    assert house.differences() == []
    assert house.verified() == ""


def test_rebuild_keeps_who_applied_what_and_when(house: House) -> None:
    house.settle()
    house.worker.stop()
    try:
        before = house.ledger_side()
        house.rebuilt("--from", "EARLIEST", "--yes")
        after = house.ledger_side()
    finally:
        house.worker.start()
        house.sender.go_on()
    assert before["dead_letters"]
    for table, rows in before.items():
        assert after[table] == rows, table
    assert house.differences() == []


async def test_rebuild_carries_over_what_kafka_has_deleted(house: House) -> None:
    house.settle()
    await delete_half(house)
    house.sender.go_on()
    printed = house.rebuilt("--from", "EARLIEST", "--yes")
    assert "turn_metrics: carries over " in printed
    assert house.differences() == []
    assert house.verified() == ""


@long
async def test_rebuild_carries_over_what_kafka_deletes_while_it_runs(house: House) -> None:
    around = house.around
    work = Rebuild(
        WorkerSettings(**{name.lower(): value for name, value in SETTINGS.items()}),
        around.kafka.settings,
        around.clickhouse.settings,
        RegistrySettings(url=around.service.url),
        _Unseen(),
    )
    try:
        planned = await work.plan(None)
        house.settle()
        await delete_half(house)
        house.sender.go_on()
        await work.run(planned)
    finally:
        await work.close()
    assert house.differences() == []


def test_rebuild_from_a_moment_reads_what_is_younger_and_carries_over_the_rest(
    house: House,
) -> None:
    moment = datetime.now(UTC).isoformat()
    time.sleep(3)
    printed = house.rebuilt("--from", moment, "--yes")
    assert "carries over" in printed
    assert house.differences() == []


def test_dry_run_says_what_would_happen_and_makes_nothing(house: House) -> None:
    printed = house.rebuilt("--from", "EARLIEST", "--dry-run")
    assert "turn-metrics.v1/1: replays " in printed
    assert house.around.asked("SELECT name FROM system.databases WHERE name LIKE '%rebuild'") == []


@long
@pytest.mark.parametrize("step", ["made", "replayed", "caught_up"])
def test_rebuild_leaves_the_live_tables_alone_when_it_dies_before_the_swap(
    house: House, step: str
) -> None:
    assert house.rebuild("--from", "EARLIEST", "--yes", crash=step).returncode == CRASHED
    second = house.rebuild("--from", "EARLIEST", "--yes")
    assert "unfinished rebuild; the live tables are untouched; --restart" in second.stderr
    assert "no swap was cut short" in house.rebuild("--continue").stderr
    assert house.differences() == []
    house.rebuilt("--from", "EARLIEST", "--yes", "--restart", "--drop-old")
    assert house.differences() == []


@long
@pytest.mark.parametrize("step", ["noted", "exchanged:1", "exchanged:7", "closed_a_gap:3"])
def test_rebuild_goes_on_when_it_dies_in_the_middle_of_the_swap(house: House, step: str) -> None:
    assert house.rebuild("--from", "EARLIEST", "--yes", crash=step).returncode == CRASHED
    for refused in (("--from", "EARLIEST", "--yes", "--restart"), ("--clean", "--yes")):
        assert "run `anabranch rebuild --continue`" in house.rebuild(*refused).stderr
    house.rebuilt("--continue")
    assert house.differences() == []
    assert house.verified() == ""


@long
@pytest.mark.parametrize("worker_dies", ["after_intent:3", "after_turn_metrics", "after_batches:2"])
def test_rebuild_closes_the_gap_of_a_worker_that_dies_during_the_swap(
    house: House, worker_dies: str
) -> None:
    house.worker.stop()
    house.worker.start_to_crash_at(worker_dies)
    assert house.worker.wait_end() == WORKER_CRASHED
    # Its intent is in Kafka, and some of it in the tables that are about to be old ones.
    crash = house.rebuild("--from", "EARLIEST", "--yes", crash="exchanged:8")
    assert crash.returncode == CRASHED, crash.stderr
    house.worker.start()  # takes the intent up again, with half of the tables exchanged
    time.sleep(2)
    house.worker.kill()
    house.worker.start()
    house.rebuilt("--continue")
    assert house.differences() == []


@long
async def test_rebuild_stores_a_replayed_dead_letter_once(house: House) -> None:
    house.settle()
    letter = Origin(
        *house.around.asked(
            "SELECT topic, partition, epoch, offset FROM dead_letters "
            "WHERE topic = 'exposures.v1' ORDER BY offset LIMIT 1"
        )[0]
    )
    event = Exposure(
        exposure_id="r", experiment="tone", version=1, variation="warm", unit="u", locale="en"
    )
    good = house.mixture.good(event)
    producer = AIOKafkaProducer(bootstrap_servers=house.around.kafka.bootstrap)
    await producer.start()
    try:
        # The oracle expects nothing of the second one.
        for key in (b"u", ABORTED + b"again"):
            await producer.send_and_wait(
                letter.topic,
                good.value,
                key=key,
                partition=letter.partition,
                headers=list(replay_headers((), letter)),
            )
    finally:
        await producer.stop()

    def skipped() -> int:
        return int(house.around.asked("SELECT sum(skipped) FROM batches")[0][0])

    wait_until(lambda: skipped() == 1)
    house.rebuilt("--from", "EARLIEST", "--yes")
    assert skipped() == 1
    ((stored,),) = house.around.asked("SELECT count() FROM exposures WHERE exposure_id = 'r'")
    assert stored == 1
    assert house.differences() == []
