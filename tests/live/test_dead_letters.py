"""Records that can never be stored: where they end, and that nothing else ends with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streams.reasons import BadEventReason
from tests.live.poison import TOPIC, Encoding, Poison, Sent, put, records_of
from tests.live.worker_fixture import Surroundings, WorkerProcess, applied, wait_applied, wait_until

WINDOW_SUMS = """
SELECT sum(n), sum(sum) FROM metric_windows
WHERE metric = 'turn_ms' AND experiment = 'tone'
"""
RAW_SUMS = "SELECT count(), sum(turn_ms) FROM turn_metrics"
UNIT_SUMS = "SELECT sum(n), sum(turn_ms_sum) FROM unit_metrics"


@pytest.fixture
def encoding(around: Surroundings) -> Encoding:
    return Encoding(around)


def stored(around: Surroundings, session: str) -> list[int]:
    """The numbers of a session, with repetitions."""
    rows = around.asked(
        "SELECT turn_ms FROM turn_metrics WHERE session = {session:String} ORDER BY turn_ms",
        session=session,
    )
    return [number for (number,) in rows]


def letters(around: Surroundings, offsets: list[int], partition: int = 0) -> list[list[Any]]:
    """Reason, detail and bytes of each, in the order of offsets."""
    return around.asked(
        "SELECT offset, reason, detail, hex(ifNull(key, '')), isNull(key), hex(ifNull(value, '')), "
        "isNull(value), arrayMap(h -> (h.1, hex(ifNull(h.2, ''))), headers) FROM dead_letters "
        "WHERE topic = {topic:String} AND partition = {partition:Int32} "
        "AND offset BETWEEN {first:Int64} AND {last:Int64} ORDER BY offset",
        topic=TOPIC,
        partition=partition,
        first=offsets[0],
        last=offsets[-1],
    )


async def test_worker_stores_good_records_once_and_keeps_each_bad_one_when_they_are_mixed(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    poison = list(encoding.poison("mixed"))
    records: list[Sent] = []
    for number, bad in enumerate(poison):
        records += [*encoding.good("mixed", [number]), bad.record]
    before, told_before = applied(around, TOPIC), dead_by_reason(worker)

    offsets = await put(around, records)

    wait_applied(around, TOPIC, records=before["records"] + len(records))
    assert stored(around, "mixed") == list(range(len(poison)))
    found = letters(around, offsets)
    assert [row[0] for row in found] == offsets[1::2]
    for row, bad in zip(found, poison, strict=True):
        assert_kept(row, bad)
    assert around.asked(WINDOW_SUMS) == around.asked(RAW_SUMS) == around.asked(UNIT_SUMS)
    assert dead_by_reason(worker) - told_before == Counter(bad.reason for bad in poison)
    await assert_told(around, dict(zip(offsets[1::2], poison, strict=True)))


def dead_by_reason(worker: WorkerProcess) -> Counter[str]:
    name = "anabranch_worker_dead_letters_total"
    return Counter(
        {reason: int(worker.metric(name, topic=TOPIC, reason=reason)) for reason in BadEventReason}
    )


def assert_kept(row: list[Any], bad: Poison) -> None:
    _, reason, detail, key, no_key, value, no_value, headers = row
    assert reason == bad.reason, detail
    assert bad.says in detail
    assert (None if no_key else bytes.fromhex(key)) == bad.record.key
    assert (None if no_value else bytes.fromhex(value)) == bad.record.value
    assert [(name, bytes.fromhex(said)) for name, said in headers] == list(bad.record.headers)


async def assert_told(around: Surroundings, poison: dict[int, Poison]) -> None:
    """The topic of dead letters has each with its bytes, its own headers and the new ones."""
    told = {}
    for record in await records_of(around, f"{TOPIC}.dead"):
        said = dict(record.headers)
        assert said["dlq.topic"].decode() == TOPIC
        told[int(said["dlq.partition"]), int(said["dlq.offset"])] = record
    for offset, bad in poison.items():
        record = told[0, offset]
        said = dict(record.headers)
        assert (record.key, record.value) == bad.record[:2]
        assert record.headers[: len(bad.record.headers)] == bad.record.headers
        assert said["dlq.reason"].decode() == bad.reason
        assert bad.says in said["dlq.detail"].decode()
        named = bad.record.value is not None and bad.record.value[:1] == b"\0"
        number = int.from_bytes((bad.record.value or b"")[1:5], "big")
        known = named and len(bad.record.value or b"") >= 5
        assert said["dlq.schema_id"] == (str(number).encode() if known else b"")
        assert said["dlq.worker_version"]


async def test_worker_isolates_a_row_when_the_table_refuses_it(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    around.asked("ALTER TABLE turn_metrics ADD CONSTRAINT unlucky CHECK turn_ms != 13")
    try:
        before = applied(around, TOPIC)
        records = encoding.good("refused", range(30))
        records.insert(5, next(encoding.poison("refused")).record)
        offsets = await put(around, records, partition=1)
        wait_applied(around, TOPIC, records=before["records"] + len(records))
    finally:
        around.asked("ALTER TABLE turn_metrics DROP CONSTRAINT unlucky")

    assert stored(around, "refused") == [number for number in range(30) if number != 13]
    first, second = letters(around, offsets, partition=1)
    assert [first[1], second[1]] == ["truncated", "refused_by_store"]
    assert "unlucky" in second[2]
    assert bytes.fromhex(second[5]) == records[14].value
    assert around.asked(WINDOW_SUMS) == around.asked(RAW_SUMS) == around.asked(UNIT_SUMS)
    assert around.asked("SHOW TABLES LIKE '%refusing%'") == []
    now = applied(around, TOPIC)
    assert (now["rows"] - before["rows"], now["dead"] - before["dead"]) == (29, 2)


async def test_worker_stops_and_loses_nothing_when_too_many_records_of_a_minute_die(
    around: Surroundings, worker: WorkerProcess, tmp_path: Path, encoding: Encoding
) -> None:
    worker.stop()
    bad = next(encoding.poison("deploy")).record
    records = [*encoding.good("deploy", range(20)), *[bad] * 20]
    strict = WorkerProcess(around, tmp_path, "strict", DEAD_SHARE=0.1, DEAD_AT_LEAST=10)
    strict.start()
    before = applied(around, TOPIC)

    offsets = await put(around, records, partition=2)

    assert strict.wait_end() == 1
    said = strict.log_of_this_life
    assert "more than the share 0.1 that ANABRANCH_WORKER__DEAD_SHARE allows" in said
    assert "Traceback" not in said
    assert applied(around, TOPIC) == before
    assert stored(around, "deploy") == []
    strict.start()
    assert strict.wait_end() == 1  # the same again: nothing has changed

    patient = WorkerProcess(around, tmp_path, "patient", DEAD_SHARE=0.9, DEAD_AT_LEAST=10)
    patient.start()
    try:
        wait_applied(around, TOPIC, records=before["records"] + len(records))
        assert stored(around, "deploy") == list(range(20))
        assert len(letters(around, offsets, partition=2)) == 20
        wait_until(lambda: patient.get("/readyz").status_code == 200)
    finally:
        assert patient.stop() == 0
