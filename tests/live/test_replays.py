"""Dead letters that are put in again: stored once, however often and by whomever."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from streams.reinsertion import Returned, reinsertion
from streams.replay_headers import Origin
from tests.live.poison import TOPIC, Encoding, Sent, put, records_of
from tests.live.stack_fixture import anabranch
from tests.live.test_dead_letters import stored
from tests.live.worker_fixture import (
    Surroundings,
    WorkerProcess,
    applied,
    wait_applied,
    wait_until,
)

Answer = subprocess.CompletedProcess[str]


@pytest.fixture
def encoding(around: Surroundings) -> Encoding:
    return Encoding(around)


def dead(around: Surroundings, *arguments: str | Path) -> Answer:
    return anabranch("dead", *arguments, environment=around.environment)


def replayed(around: Surroundings, *arguments: str) -> dict[str, Any]:
    answer = dead(around, "replay", "--yes", "--json", *arguments)
    assert answer.returncode == 0, answer.stderr
    said: dict[str, Any] = json.loads(answer.stdout)
    return said


def marks(around: Surroundings, partition: int, offset: int) -> list[list[Any]]:
    return around.asked(
        "SELECT mark, at_offset FROM dead_letter_marks WHERE topic = {topic:String} "
        "AND partition = {partition:Int32} AND offset = {offset:Int64} ORDER BY marked_at, mark",
        topic=TOPIC,
        partition=partition,
        offset=offset,
    )


def skipped(around: Surroundings) -> int:
    return int(around.asked("SELECT sum(skipped) FROM batches")[0][0])


async def refused(
    around: Surroundings, encoding: Encoding, session: str, count: int, partition: int
) -> list[int]:
    """The offsets of good events that a table refused, which it takes by now. A worker runs."""
    before = applied(around, TOPIC)
    around.asked(
        "ALTER TABLE turn_metrics ADD CONSTRAINT closed CHECK session != {session:String}",
        session=session,
    )
    try:
        offsets = await put(
            around, encoding.good(session, range(count), (("trace", b"\xff"),)), partition
        )
        wait_applied(around, TOPIC, dead=before["dead"] + count)
    finally:
        around.asked("ALTER TABLE turn_metrics DROP CONSTRAINT closed")
    return offsets


async def test_letter_is_stored_once_when_it_is_replayed_by_two_commands_at_once_and_again(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    offsets = await refused(around, encoding, "twice", 5, 0)
    names = [f"{TOPIC}/0/{offset}" for offset in offsets]
    assert stored(around, "twice") == []
    before, skipped_before = applied(around, TOPIC), skipped(around)
    worker.stop()  # else the first command's replays may be stored before the second looks
    said = await asyncio.gather(*(asyncio.to_thread(replayed, around, *names) for _ in range(2)))
    worker.start()

    assert [len(one["replayed"]) for one in said] == [5, 5]
    wait_until(lambda: skipped(around) == skipped_before + 5)
    assert stored(around, "twice") == list(range(5))
    assert applied(around, TOPIC)["rows"] == before["rows"] + 5
    for offset in offsets:
        kinds = [mark for mark, _ in marks(around, 0, offset)]
        assert sorted(kinds) == ["applied", "replayed", "replayed"]
    again = replayed(around, *names)
    assert (again["stored_before"], again["replayed"]) == (names, [])
    assert worker.metric("anabranch_worker_records_total", outcome="skipped") == 5
    assert stored(around, "twice") == list(range(5))


async def test_replayed_record_has_the_bytes_and_headers_of_the_first_in_its_partition(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    (offset,) = await refused(around, encoding, "bytes", 1, 3)
    (original,) = encoding.good("bytes", [0])

    (at,) = [one["at_offset"] for one in replayed(around, f"{TOPIC}/3/{offset}")["replayed"]]

    (record,) = [r for r in await records_of(around, TOPIC) if (r.partition, r.offset) == (3, at)]
    assert record.key == original.key
    assert record.value is not None
    assert original.value is not None
    assert record.value[:12] == original.value[:12]
    said = dict(record.headers)
    assert said.pop("replay.epoch")
    assert said == {
        "trace": b"\xff",
        "replay.topic": TOPIC.encode(),
        "replay.partition": b"3",
        "replay.offset": str(offset).encode(),
    }
    wait_until(lambda: stored(around, "bytes") == [0])


async def test_letter_is_stored_once_when_the_worker_dies_between_its_replays(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding, tmp_path: Path
) -> None:
    (offset,) = await refused(around, encoding, "crash", 1, 2)
    name = f"{TOPIC}/2/{offset}"
    worker.stop()
    before, skipped_before = applied(around, TOPIC), skipped(around)
    for _ in range(2):
        await asyncio.gather(*(asyncio.to_thread(replayed, around, name) for _ in range(2)))
        await put(around, encoding.good("between", range(3)), 2)
    one_by_one = WorkerProcess(around, tmp_path, "one-by-one", BATCH_ROWS=1)
    try:
        for seconds in (0.3, 0.6):
            one_by_one.start()
            wait_applied(around, TOPIC, records=before["records"] + 1)
            before = applied(around, TOPIC)
            await asyncio.sleep(seconds)
            one_by_one.kill()
        one_by_one.start()
        wait_until(lambda: stored(around, "between") == [0, 0, 1, 1, 2, 2])
        wait_until(lambda: skipped(around) == skipped_before + 3)
    finally:
        one_by_one.stop()
    assert stored(around, "crash") == [0]
    assert [mark for mark, _ in marks(around, 2, offset)].count("applied") == 1


async def test_letter_that_dies_again_has_one_origin_and_is_stored_once_when_it_can_be(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    (good,) = encoding.good("again", [7])
    assert good.value is not None
    unknown = 7_777
    (first,) = await put(
        around, [Sent(good.key, b"\0" + unknown.to_bytes(4, "big") + good.value[5:])], 1
    )
    wait_until(lambda: letter_at(around, 1, first) is not None)
    verdict = json.loads(dead(around, "replay", f"{TOPIC}/1/{first}", "--dry-run", "--json").stdout)
    assert verdict["verdicts"][0]["good"] is False
    assert "schema 7777 is not known" in verdict["verdicts"][0]["problem"]
    assert verdict["replayed"] == []
    assert marks(around, 1, first) == []

    second = replayed(around, f"{TOPIC}/1/{first}")["replayed"][0]["at_offset"]

    wait_until(lambda: letter_at(around, 1, second) is not None)
    assert str(letter_at(around, 1, second)).endswith(f"(a replay of {TOPIC}/1/{first})")
    only_good = replayed(around, f"{TOPIC}/1/{second}", "--only-good")
    assert (len(only_good["verdicts"]), only_good["replayed"]) == (1, [])
    third = replayed(around, f"{TOPIC}/1/{second}")["replayed"][0]["at_offset"]
    (record,) = [
        r for r in await records_of(around, TOPIC) if (r.partition, r.offset) == (1, third)
    ]
    assert dict(record.headers)["replay.offset"] == str(first).encode()
    assert [name for name, _ in record.headers].count("replay.offset") == 1


def letter_at(around: Surroundings, partition: int, offset: int) -> str | None:
    rows = around.asked(
        "SELECT detail FROM dead_letters WHERE topic = {topic:String} "
        "AND partition = {partition:Int32} AND offset = {offset:Int64}",
        topic=TOPIC,
        partition=partition,
        offset=offset,
    )
    return rows[0][0] if rows else None


def environment_without_kafka(around: Surroundings) -> Mapping[str, str]:
    return {**around.environment, "ANABRANCH_KAFKA__BOOTSTRAP": "127.0.0.1:1"}


async def test_replay_marks_nothing_when_kafka_is_away(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    (offset,) = await refused(around, encoding, "away", 1, 0)
    name = f"{TOPIC}/0/{offset}"

    answer = anabranch(
        "dead", "replay", "--yes", name, environment=environment_without_kafka(around)
    )

    assert answer.returncode == 1
    assert "nothing was replayed" in answer.stderr
    assert "127.0.0.1:1" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert marks(around, 0, offset) == []


async def test_letters_are_stored_once_when_a_command_died_before_it_made_their_marks(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    offsets = await refused(around, encoding, "killed", 90, 0)
    ((epoch,),) = around.asked(
        "SELECT DISTINCT epoch FROM batches WHERE topic = {topic:String} AND partition = 0",
        topic=TOPIC,
    )
    skipped_before = skipped(around)
    worker.stop()
    async with reinsertion(around.kafka.settings) as topics:
        records = encoding.good("killed", range(90))
        put_by_the_dead = [
            Returned(Origin(TOPIC, 0, epoch, offset), record.key, record.value, ())
            for offset, record in zip(offsets, records, strict=True)
        ]
        assert all(isinstance(at, int) for at in await topics.put(put_by_the_dead[:50]))

    answer = replayed(around, "--partition", "0", "--since", "10m", "--reason", "refused_by_store")

    assert (len(answer["replayed"]) >= 90, answer["failed"]) == (True, [])
    worker.start()
    wait_until(lambda: stored(around, "killed") == list(range(90)))
    wait_until(lambda: skipped(around) == skipped_before + 50)
