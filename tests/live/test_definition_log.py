"""The definition log on a real Kafka: changes that race, readers that agree, Kafka going away."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path

import pytest

from anabranch.definition_records import Document, Documents
from anabranch.events import ExperimentRecord
from schemas.topics import EXPERIMENTS
from service.definition_errors import (
    DefinitionTooLargeError,
    InvalidChangeError,
    LogUnavailableError,
    VersionConflictError,
)
from tests.live.definition_services import (
    append,
    definition_service,
    delete_log,
    encoded,
    make_log,
    until,
)
from tests.live.kafka_fixture import Broker

ROUNDS = 50
MANY = 3_000


def written(version: int, by: str, *, key: str = "npc_tone") -> tuple[bytes, bytes]:
    return encoded(
        ExperimentRecord(
            key=key, version=version, status="draft", definition='{"a":1}', changed_by=by
        )
    )


async def test_one_of_two_writers_wins_each_round_and_both_readers_agree(kafka: Broker) -> None:
    await make_log(kafka.settings, "racing.v1")
    async with (
        definition_service(kafka.settings, "racing.v1") as ann,
        definition_service(kafka.settings, "racing.v1") as bob,
    ):
        won_by = []
        for version in range(ROUNDS):
            answers = await asyncio.gather(
                ann.log.change("npc_tone", version, "running", {"by": "ann"}, "ann"),
                bob.log.change("npc_tone", version, "running", {"by": "bob"}, "bob"),
                return_exceptions=True,
            )
            made = [answer for answer in answers if isinstance(answer, Document)]
            lost = [answer for answer in answers if isinstance(answer, VersionConflictError)]
            assert (len(made), len(lost)) == (1, 1), answers
            assert lost[0].current == made[0]
            won_by.append(made[0].changed_by)
            await until(lambda: ann.log.documents == bob.log.documents)
            assert ann.log.documents["npc_tone"] == made[0]
        history = ann.log.history("npc_tone")
        assert [document.changed_by for document in history] == won_by
        assert [document.version for document in history] == list(range(1, ROUNDS + 1))
        # What came second in the last round does not stay in front.
        await until(lambda: not ann.reader.documents.shadowed | bob.reader.documents.shadowed)
        print(f"\nwon by ann {won_by.count('ann')}, by bob {won_by.count('bob')}")


async def test_a_change_reaches_another_reader_within_a_second(kafka: Broker) -> None:
    await make_log(kafka.settings, "converging.v1")
    async with (
        definition_service(kafka.settings, "converging.v1") as writer,
        definition_service(kafka.settings, "converging.v1") as other,
    ):
        arrived: dict[int, float] = {}

        def note(documents: Documents, keys: frozenset[str]) -> None:
            assert keys == {"npc_tone"}
            arrived[documents["npc_tone"].version] = time.perf_counter()

        unsubscribe = other.reader.subscribe(note)
        delays, answers = [], []
        for version in range(100):
            began = time.perf_counter()
            made = await writer.log.change("npc_tone", version, "draft", {"v": version}, "ann")
            answers.append(time.perf_counter() - began)
            await other.reader.wait_beyond(made.offset)
            delays.append(arrived[made.version] - began)
        unsubscribe()
        await writer.log.change("npc_tone", 100, "draft", {}, "ann")
        assert max(arrived) == 100
        print(
            f"\nfrom the call to another reader: median {statistics.median(delays) * 1000:.1f} ms,"
            f" longest {max(delays) * 1000:.1f} ms; to the answer: median "
            f"{statistics.median(answers) * 1000:.1f} ms"
        )
        assert max(delays) < 1.0


async def test_change_is_refused_unwritten_when_it_is_stale_wrong_or_too_large(
    kafka: Broker,
) -> None:
    await make_log(kafka.settings, "refusing.v1")
    async with definition_service(kafka.settings, "refusing.v1") as service:
        first = await service.log.change("holdout:spring", 0, "running", {"share": 1}, "ann")
        assert first.kind == "holdout"
        revision = service.log.documents.revision
        with pytest.raises(VersionConflictError, match="version 1 is there, by ann") as conflict:
            await service.log.change("holdout:spring", 0, "running", {}, "bob")
        assert conflict.value.current == first
        with pytest.raises(VersionConflictError, match="there is none"):
            await service.log.change("unknown", 3, "running", {}, "bob")
        with pytest.raises(DefinitionTooLargeError, match="at most 200,000 fit") as large:
            await service.log.change("large", 0, "draft", {"text": "x" * 200_000}, "bob")
        assert large.value.size == 200_011
        with pytest.raises(InvalidChangeError, match="Out of range float"):
            await service.log.change("odd", 0, "draft", {"share": float("nan")}, "bob")
        with pytest.raises(InvalidChangeError, match="key is"):
            await service.log.change("no spaces", 0, "draft", {}, "bob")
        assert service.log.documents.revision == revision
        largest = {"text": "🎲" * (200_000 - 11)}
        made = await service.log.change("large", 0, "draft", largest, "ann")
        assert made.definition == largest
        again = await service.log.change("large", 1, "running", made.definition, "ann")
        assert again.text == made.text
        assert service.counted("anabranch_definition_changes_total", outcome="won") == 3
        assert service.counted("anabranch_definition_changes_total", outcome="refused") == 3
        assert service.counted("anabranch_definition_changes_total", outcome="conflict") == 2


async def test_reader_skips_and_counts_what_is_no_definition(kafka: Broker) -> None:
    await make_log(kafka.settings, "odd.v1")
    good = written(1, "ann")
    # A record without a key is not among them: Kafka takes none into a compacted topic.
    odd = [
        (b"npc_tone", b"no avro"),
        (b"npc_tone", None),
        (b"npc_tone", good[1][:-3]),
        (b"npc_tone", good[1] + b"!"),
        (b"npc_tone", b"\0\0\0\0\1" + good[1][5:]),
        (b"npc_tone", b"\0\0\0\x7f\1" + good[1][5:]),
        (b"other", good[1]),
    ]
    await append(kafka.settings, "odd.v1", good, *odd)
    async with definition_service(kafka.settings, "odd.v1") as service:
        assert list(service.log.documents) == ["npc_tone"]
        counted = service.counted("anabranch_definition_records_total", outcome="unreadable")
        assert counted == len(odd)
        # The topic would keep the last of them when it is compacted, so a copy has to follow.
        await until(lambda: not service.reader.documents.shadowed)
        made = await service.log.change("npc_tone", 1, "running", {}, "bob")
        assert made.version == 2
        assert service.reader.problem is None


async def test_readers_agree_before_and_after_a_real_compaction(kafka: Broker) -> None:
    """Its lag aside: the copies are there before Kafka compacts."""
    await make_log(
        kafka.settings,
        "compacting.v1",
        **{
            "min.compaction.lag.ms": "0",
            "segment.ms": "1000",
            "min.cleanable.dirty.ratio": "0.001",
        },
    )
    records = [written(version, by) for version in range(1, 40) for by in ("ann", "bob")]
    await append(kafka.settings, "compacting.v1", *records)
    async with definition_service(kafka.settings, "compacting.v1") as before:
        assert before.log.documents["npc_tone"].version == 39
        assert before.log.documents["npc_tone"].changed_by == "ann"
        await until(lambda: not before.reader.documents.shadowed)

        async def thinned_out() -> bool:
            async with definition_service(kafka.settings, "compacting.v1") as after:
                assert after.log.documents["npc_tone"] == before.log.documents["npc_tone"]
                return len(after.log.history("npc_tone")) < 39

        async with asyncio.timeout(60):
            while not await thinned_out():
                # A new segment begins with a record, and only older ones are compacted.
                await append(kafka.settings, "compacting.v1", written(1, "eve", key="other"))
                await asyncio.sleep(1.2)


async def test_reader_serves_the_snapshot_while_kafka_is_away_and_then_catches_up(
    own_kafka: Broker, tmp_path: Path
) -> None:
    topic, folder = EXPERIMENTS.name, tmp_path / "kept"
    await make_log(own_kafka.settings, topic)
    async with definition_service(own_kafka.settings, topic, folder) as service:
        made = await service.log.change("npc_tone", 0, "running", {"a": [1]}, "ann")
        await until((folder / "definitions.json").exists)
    assert (folder / "definitions.json").stat().st_mode & 0o777 == 0o600
    an_hour_ago = time.time() - 3600
    os.utime(folder / "definitions.json", (an_hour_ago, an_hour_ago))
    own_kafka.stop()
    async with definition_service(own_kafka.settings, topic, folder, timeout=1.0) as service:
        assert service.log.documents["npc_tone"] == made
        assert service.reader.stale_seconds == pytest.approx(3600, abs=60)
        assert service.reader.problem is not None
        assert "1 definitions from 36" in service.reader.problem
        assert service.counted("anabranch_definition_stale_seconds") > 3599
        with pytest.raises(LogUnavailableError, match="nothing was written") as refused:
            await service.log.change("npc_tone", 1, "running", {}, "ann")
        assert refused.value.written is False
        own_kafka.start()
        await until(lambda: service.reader.problem is None)
        assert service.reader.stale_seconds is None
        changed = await service.log.change("npc_tone", 1, "stopped", {}, "ann")
        assert changed.version == 2


async def test_reader_goes_on_after_kafka_was_away(own_kafka: Broker) -> None:
    await make_log(own_kafka.settings, "returning.v1")
    async with definition_service(own_kafka.settings, "returning.v1", timeout=2.0) as service:
        await service.log.change("npc_tone", 0, "running", {}, "ann")
        own_kafka.stop()
        with pytest.raises(LogUnavailableError) as unknown:
            # At once, before anybody has noticed: it waits in the producer, and may be written.
            await service.log.change("npc_tone", 1, "stopped", {}, "ann")
        assert unknown.value.written is None
        assert "not known whether version 2 of npc_tone was written" in str(unknown.value)
        await until(lambda: service.reader.problem is not None)
        own_kafka.start()
        await until(lambda: service.reader.problem is None, seconds=40)
        await asyncio.sleep(1)
        version = service.log.documents["npc_tone"].version
        assert version in {1, 2}

        async def changes_again() -> bool:
            try:
                await service.log.change("npc_tone", version, "running", {}, "ann")
            except (LogUnavailableError, VersionConflictError):
                return service.log.documents["npc_tone"].version > version
            return True

        async with asyncio.timeout(30):
            while not await changes_again():  # noqa: ASYNC110  until Kafka is back
                await asyncio.sleep(0.2)
        assert [document.version for document in service.log.history("npc_tone")] == list(
            range(1, service.log.documents["npc_tone"].version + 1)
        )


async def test_reader_takes_a_log_that_was_made_anew_from_its_beginning(kafka: Broker) -> None:
    topic = "made-anew.v1"
    await make_log(kafka.settings, topic)
    await append(kafka.settings, topic, *(written(version, "ann") for version in range(1, 9)))
    async with definition_service(kafka.settings, topic) as service:
        assert service.log.documents["npc_tone"].version == 8
        waiting = asyncio.create_task(service.reader.wait_beyond(1_000))
        await delete_log(kafka.settings, topic)
        await asyncio.sleep(0.5)
        await make_log(kafka.settings, topic)
        await append(kafka.settings, topic, written(1, "bob", key="fresh"))
        await until(lambda: list(service.log.documents) == ["fresh"], seconds=30)
        await asyncio.wait_for(waiting, 5)
        assert service.counted("anabranch_definition_logs_made_anew_total") == 1


async def test_reader_waits_for_a_log_that_is_missing_and_does_not_make_it(kafka: Broker) -> None:
    async with definition_service(kafka.settings, "missing.v1") as service:
        assert service.reader.problem is not None
        assert "missing.v1 is missing" in service.reader.problem
        await make_log(kafka.settings, "missing.v1")
        await until(lambda: service.reader.problem is None)


async def test_disk_that_cannot_be_written_breaks_nothing_else(
    kafka: Broker, tmp_path: Path
) -> None:
    await make_log(kafka.settings, "no-disk.v1")
    (folder := tmp_path / "a_file").write_text("in the way")
    async with definition_service(kafka.settings, "no-disk.v1", folder) as service:
        made = await service.log.change("npc_tone", 0, "draft", {}, "ann")
        failures = "anabranch_definition_snapshot_failures_total"
        await until(lambda: service.counted(failures) > 0)
        assert service.log.documents["npc_tone"] == made


async def test_three_thousand_definitions_are_loaded_within_seconds(
    kafka: Broker, tmp_path: Path
) -> None:
    await make_log(kafka.settings, "many.v1")
    text = '{"variations":[' + ",".join('{"key":"warm","weight":10}' for _ in range(80)) + "]}"
    records = [
        encoded(
            ExperimentRecord(
                key=f"e{number}", version=1, status="draft", definition=text, changed_by="ann"
            )
        )
        for number in range(MANY)
    ]
    await append(kafka.settings, "many.v1", *records)
    began = time.perf_counter()
    async with definition_service(kafka.settings, "many.v1", tmp_path) as service:
        seconds = time.perf_counter() - began
        assert len(service.log.documents) == MANY
        began = time.perf_counter()
        await service.log.change("e1", 1, "running", {}, "ann")
        change = time.perf_counter() - began
        print(
            f"\n{MANY} definitions of {len(text)} characters read in {seconds:.2f} s; "
            f"a change among them {change * 1000:.0f} ms"
        )
        assert seconds < 10
