"""Verify on a real engine: quiet where all is as it was applied, exact where somebody tampered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from schemas.topics import EXPOSURES, INVITES, OUTCOMES, TURN_METRICS
from sinks.clickhouse import connected
from sinks.verify import Difference, LedgerEntry, Limits, Span, Verification
from sinks.verify import verify as look
from sinks.verify_ledger import check_ledger
from sinks.verify_questions import Findings, Questions
from tests.live.applied_batches import TOPICS, Applier
from tests.live.applied_batches import applier as applier

TURNS = TURN_METRICS.name
TABLES = {
    *("batches", "metric_windows", "metric_hours", "metric_days"),
    *("unit_metrics", "unit_exposures", "invite_units", "batch_totals"),
}


async def at_once(seconds: float) -> None:
    """Where nothing moves, there is nothing to wait for."""


async def verify(
    applier: Applier,
    since: datetime | None = None,
    sleep: Callable[[float], Awaitable[None]] = at_once,
) -> Verification:
    return await look(applier.settings, now=datetime.now(UTC), since=since, sleep=sleep)


def difference(found: Verification, table: str) -> Difference:
    return next(one for one in found.differences if one.table == table)


def tables(found: Verification) -> set[str]:
    return {one.table for one in found.differences}


async def test_verify_finds_nothing_where_all_is_as_it_was_applied(applier: Applier) -> None:
    found = await verify(applier)
    assert found.differences == ()
    assert found.total == found.moving == found.in_flight == 0
    assert {table for table, rows in found.checked.items() if rows} >= TABLES
    assert found.checked["batches"] == 4 * 2 * 3


async def test_span_holds_the_last_part_of_its_last_second(applier: Applier) -> None:
    """Where an index decides, too: a part that holds nothing but 12:00:59.254."""
    await applier.writer.command(
        "CREATE TABLE late (ts DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY ts AS "
        "SELECT toDateTime64('2026-11-21 12:00:59.254', 3, 'UTC')"
    )
    start = datetime(2026, 11, 21, 12, tzinfo=UTC)
    of_minute = Span(start, start + timedelta(minutes=1)).of("ts")
    assert await applier.writer.query(f"SELECT count() FROM late WHERE {of_minute}") == [(1,)]


async def test_verify_names_the_offset_when_a_raw_row_is_gone(applier: Applier) -> None:
    range_ = await applier.apply(TURNS, 1, 50, dead=1)
    gone = range_.first + 17
    await applier.delete("turn_metrics", f"_partition = 1 AND _offset = {gone}")
    found = await verify(applier)
    raw = difference(found, "turn_metrics")
    offsets = f"{range_.first}-{range_.last}"
    assert raw.key == {"topic": TURNS, "partition": "1", "offsets": offsets}
    said = (raw.column, raw.expected, raw.found)
    assert said == ("rows in the range", "50", f"49 (none at {gone})")
    # What was made of it is too much now. Hours and days are still those of the minutes.
    assert difference(found, "metric_windows").column in ("n", "the row")
    assert tables(found) <= {"turn_metrics", "metric_windows", "unit_metrics"}


async def test_verify_names_the_offset_when_a_raw_row_is_there_twice(applier: Applier) -> None:
    outcomes = await applier.apply(OUTCOMES.name, 0, 20)
    exposures = await applier.apply(EXPOSURES.name, 0, 20)
    twice = "INSERT INTO {0} SELECT * FROM {0} WHERE _partition = 0 AND _offset = {1}"
    await applier.writer.command(twice.format("outcomes", outcomes.first + 3))
    await applier.writer.command(twice.format("exposures", exposures.first))
    await applier.delete("exposures", f"_partition = 0 AND _offset = {exposures.last}")
    found = await verify(applier)
    raw = difference(found, "outcomes")
    assert (raw.expected, raw.found) == ("20", f"21 (more than once at {outcomes.first + 3})")
    raw = difference(found, "exposures")
    where = f"more than once at {exposures.first}; none at {exposures.last}"
    assert (raw.expected, raw.found) == ("20", f"20 ({where})")


async def test_verify_names_the_batch_when_its_row_is_gone_or_there_twice(
    applier: Applier,
) -> None:
    before = await applier.apply(TURNS, 0, 10)
    lost = await applier.apply(TURNS, 0, 11, dead=1)
    after = await applier.apply(TURNS, 0, 12)
    again = await applier.apply(INVITES.name, 1, 10)
    await applier.delete("batches", f"topic = '{TURNS}' AND partition = 0 AND first = {lost.first}")
    await applier.writer.command(
        f"INSERT INTO batches SELECT * FROM batches WHERE topic = '{INVITES.name}' "
        f"AND partition = 1 AND first = {again.first}"
    )
    found = await verify(applier)
    assert tables(found) == {"batches", "batch_totals", "turn_metrics", "dead_letters", "invites"}
    place = {"topic": TURNS, "partition": "0"}
    wrong = [one for one in found.differences if one.table == "batches"]
    gap, overlap = sorted(wrong, key=lambda one: "overlap" in one.found)
    assert gap.key == {**place, "epoch": "life", "offsets": f"{after.first}-{after.last}"}
    assert gap.expected == str(before.last + 1)
    assert gap.found == f"{after.first}: a gap of 12 offsets"
    assert overlap.found == f"{again.first}: an overlap of 10 offsets"
    raw = difference(found, "turn_metrics")
    assert raw.key == {**place, "offsets": f"{lost.first}-{lost.last - 1}"}
    assert (raw.column, raw.expected, raw.found) == ("rows of no batch", "0", "11")


async def test_verify_names_the_rows_of_a_first_and_of_a_last_batch_that_are_gone(
    applier: Applier,
) -> None:
    """No gap shows them: nothing is before the one or after the other."""
    last = await applier.apply(TURNS, 0, 11, dead=1)
    await applier.delete("batches", f"topic = '{TURNS}' AND partition = 0 AND first = {last.first}")
    await applier.delete("batches", f"topic = '{TURNS}' AND partition = 1 AND first = 0")
    found = await verify(applier)
    assert tables(found) == {"batch_totals", "turn_metrics", "dead_letters"}
    raw = [one for one in found.differences if one.table == "turn_metrics"]
    assert {(one.key["partition"], one.column, one.expected) for one in raw} == {
        ("0", "rows of no batch", "0"),
        ("1", "rows of no batch", "0"),
    }
    of_last, of_first = sorted(raw, key=lambda one: one.key["partition"])
    assert of_last.key["offsets"] == f"{last.first}-{last.last - 1}"
    assert of_first.key["offsets"].startswith("0-")


async def test_verify_names_the_range_when_a_dead_letter_is_gone(applier: Applier) -> None:
    range_ = await applier.apply(TURNS, 0, 5, dead=2)
    await applier.delete(
        "dead_letters", f"topic = '{TURNS}' AND partition = 0 AND offset = {range_.last}"
    )
    found = await verify(applier)
    assert found.total == 1
    letters = difference(found, "dead_letters")
    assert letters.key["offsets"] == f"{range_.first}-{range_.last}"
    assert (letters.expected, letters.found) == ("2", "1")


async def test_verify_names_the_window_and_its_buckets_when_one_was_changed(
    applier: Applier,
) -> None:
    key = "window, experiment, version, variation, locale, metric"
    await applier.writer.command(
        "INSERT INTO metric_windows "
        f"SELECT {key}, 0, 0., 0., min(min), max(max), map(toInt32(12345), toUInt64(1)) "
        f"FROM metric_windows WHERE metric = 'turn_ms' GROUP BY {key} ORDER BY {key} LIMIT 1"
    )
    found = await verify(applier)
    assert found.total == 1
    window = difference(found, "metric_windows")
    assert window.column == "histogram (bucket: times)"
    assert (window.expected, window.found) == ("12345: 0", "12345: 1")
    assert window.key["metric"] == "turn_ms"


async def test_verify_names_the_key_and_the_column_of_every_aggregate_that_was_changed(
    applier: Applier,
) -> None:
    windows = "(window, experiment, version, variation, locale, metric)"
    units = "(day, experiment, version, variation, unit)"
    changes = (
        ("metric_hours", windows, "sum = sum + 1", "sum"),
        ("metric_days", windows, "min = min - 1", "min"),
        ("unit_metrics", units, "acts_sum = acts_sum + 1", "acts_sum"),
        ("invite_units", "(day, loop, inviter, locale)", "joined = joined + 1", "joined"),
        ("unit_exposures", "(experiment, unit)", "last_ts = last_ts + 1", "last_ts"),
        ("unit_exposures", "(experiment, unit)", "variations = ['z']", "variations"),
        ("unit_exposures", "(experiment, unit)", "first = (first.1, 9, 'z', '', [])", "first"),
    )
    for place, (table, key, change, _) in enumerate(changes):
        await applier.writer.command(f"OPTIMIZE TABLE {table} FINAL")
        chosen = f"SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET {place}"
        await applier.writer.command(
            f"ALTER TABLE {table} UPDATE {change} WHERE {key} = ({chosen}) "
            "SETTINGS mutations_sync = 2"
        )
    await applier.writer.command(
        "INSERT INTO invite_units SELECT day, loop, 'nobody', locale, 1, 0, 0 "
        "FROM invite_units LIMIT 1"
    )
    found = await verify(applier)
    told = {(one.table, one.column) for one in found.differences}
    assert told == {
        *((table, column) for table, _, _, column in changes),
        ("invite_units", "n"),
        ("invite_units", "the row"),
    }
    made_up = next(one for one in found.differences if one.column == "the row")
    assert made_up.key["inviter"] == "nobody"
    assert (made_up.expected, made_up.found) == ("no row", "a row with n = 1")


async def test_verify_lists_the_first_differences_and_counts_all(applier: Applier) -> None:
    ((keys,),) = await applier.writer.query(
        "SELECT uniqExact(day, experiment, version, variation, unit) FROM unit_metrics"
    )
    await applier.writer.command("TRUNCATE TABLE unit_metrics")
    found = await verify(applier)
    assert found.total == keys > len(found.differences)
    assert tables(found) == {"unit_metrics"}


async def test_verify_takes_batches_that_are_not_finished_for_what_they_are(
    applier: Applier,
) -> None:
    for inserts in range(1, 5):
        for topic in TOPICS:
            await applier.apply(topic, inserts - 1, 30, dead=1, inserts=inserts)
    found = await verify(applier)
    assert found.differences == ()
    # Dead letters go first, then raw rows; the fourth insert of outcomes is their last.
    assert found.in_flight == 2 * 4 + 3 * 4 * 30 - 30
    assert found.moving > 0


async def test_verify_takes_a_topic_made_anew_for_what_it_is(applier: Applier) -> None:
    again = Applier(applier.settings, seed=2, epoch="anew")
    await again.apply_some(TOPICS, partitions=2, ranges=2)
    assert (await verify(applier)).differences == ()
    await again.apply(TURNS, 0, 30, inserts=2)
    assert (await verify(applier)).total == 0
    await again.writer.close()


async def test_verify_stays_quiet_while_batches_are_applied(applier: Applier) -> None:
    stop = asyncio.Event()

    async def ingest(partition: int) -> None:
        while not stop.is_set():
            for topic in TOPICS:
                late = 90_000_000 if partition else 0
                ts = int(time.time() * 1000) - late
                await applier.apply(topic, partition, 40, dead=1, ts=ts)

    running = [asyncio.create_task(ingest(partition)) for partition in range(3)]
    deadline = time.monotonic() + 8
    looks = 0
    while time.monotonic() < deadline or looks < 2:
        found = await verify(applier, sleep=asyncio.sleep)
        assert found.differences == ()
        looks += 1
    stop.set()
    await asyncio.gather(*running)
    found = await verify(applier)
    assert (found.total, found.moving, found.in_flight) == (0, 0, 0)


async def test_verify_still_sees_what_is_wrong_while_batches_are_applied(applier: Applier) -> None:
    lost = await applier.apply(TURNS, 0, 10)
    await applier.delete("turn_metrics", f"_partition = 0 AND _offset = {lost.first}")
    stop = asyncio.Event()

    async def ingest() -> None:
        while not stop.is_set():
            await applier.apply(TURNS, 1, 40)

    running = asyncio.create_task(ingest())
    found = await verify(applier)
    stop.set()
    await running
    assert {"turn_metrics", "metric_windows"} <= tables(found)


async def test_verify_since_looks_at_what_is_from_then_on(applier: Applier) -> None:
    long_ago = int((time.time() - 3 * 86_400) * 1000)
    await applier.apply(TURNS, 0, 10, ts=long_ago)
    await applier.delete("metric_windows", "window < now() - INTERVAL 1 DAY")
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert (await verify(applier, since=an_hour_ago)).total == 0
    assert (await verify(applier)).total > 0
    await applier.writer.command(
        "INSERT INTO unit_exposures SELECT experiment, unit, first, last_ts, variations, 1 "
        "FROM unit_exposures LIMIT 1"
    )
    assert tables(await verify(applier, since=an_hour_ago)) == {"unit_exposures"}


async def test_verify_holds_the_ledger_against_what_is_applied(applier: Applier) -> None:
    async with connected(applier.settings) as client:
        ask = Questions(client, Limits(), at_once)

        async def told(next_: int, intended: int | None = None) -> list[tuple[str, str, str]]:
            async def read_ledger() -> Mapping[tuple[str, int], LedgerEntry]:
                return {(TURNS, 0): LedgerEntry("life", next_, intended)}

            findings = Findings()
            await check_ledger(ask, findings, read_ledger)
            return [(one.table, one.column, one.found) for one in findings.differences]

        end = applier.next[TURNS, 0]
        assert await told(end) == []
        assert await told(end - 3, end - 1) == []
        assert await told(end + 5) == [("batches", "last", str(end - 1))]
        assert await told(end - 5) == [("the ledger in Kafka", "next", str(end - 5))]
        await applier.apply(TURNS, 0, 10, inserts=1)
        assert await told(end, end + 9) == []
        assert await told(end) == [("turn_metrics", "greatest _offset", str(end + 9))]
