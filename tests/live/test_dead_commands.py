"""`anabranch dead list|show|drop` and what they say to wrong input."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.live.poison import TOPIC, Encoding, Sent, put
from tests.live.stack_fixture import anabranch
from tests.live.test_replays import dead, marks, replayed
from tests.live.worker_fixture import Surroundings, WorkerProcess, wait_until

PARTITION = 3


@pytest.fixture
def encoding(around: Surroundings) -> Encoding:
    return Encoding(around)


def listed(around: Surroundings, *arguments: str) -> dict[str, Any]:
    answer = dead(around, "list", "--json", "--limit", "1000", *arguments)
    assert answer.returncode == 0, answer.stderr
    said: dict[str, Any] = json.loads(answer.stdout)
    return said


def offsets_of(said: dict[str, Any]) -> set[int]:
    return {letter["offset"] for letter in said["letters"]}


def died_of(around: Surroundings, partition: int, offsets: list[int]) -> list[int]:
    rows = around.asked(
        "SELECT offset FROM dead_letters WHERE topic = {topic:String} "
        "AND partition = {partition:Int32} AND has({offsets:Array(Int64)}, offset) ORDER BY offset",
        topic=TOPIC,
        partition=partition,
        offsets=offsets,
    )
    return [offset for (offset,) in rows]


async def died(around: Surroundings, records: list[Sent]) -> list[int]:
    """The offsets of dead letters of this partition. A worker runs."""
    offsets = await put(around, records, PARTITION)
    wait_until(lambda: died_of(around, PARTITION, offsets) == offsets)
    return offsets


async def test_list_finds_letters_by_what_they_are(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    poison = list(encoding.poison("listed"))
    offsets = await died(around, [bad.record for bad in poison])
    here = ("--topic", TOPIC, "--partition", str(PARTITION))

    everything = listed(around, *here)
    assert everything["total"] == len(everything["letters"]) >= len(poison)
    assert {count["reason"] for count in everything["counts"]} >= {bad.reason for bad in poison}
    for reason in ("empty", "invalid"):
        wanted = {at for at, bad in zip(offsets, poison, strict=True) if bad.reason == reason}
        said = listed(around, *here, "--reason", reason)
        assert wanted <= offsets_of(said)
        assert {letter["reason"] for letter in said["letters"]} == {reason}
    (one,) = listed(around, *here, "--offset", str(offsets[3]))["letters"]
    assert (one["id"], one["reason"]) == (f"{TOPIC}/{PARTITION}/{offsets[3]}", "bad_magic")
    assert listed(around, *here, "--until", "1h")["total"] == 0
    assert listed(around, *here, "--since", "1h") == everything
    assert listed(around, "--topic", "invites.v1") == {"total": 0, "counts": [], "letters": []}
    text = dead(around, "list", *here, "--limit", "3").stdout
    assert f"{TOPIC}/{PARTITION}/" in text
    assert f"and {everything['total'] - 3} more" in text


async def test_show_tells_everything_and_writes_nothing_to_the_terminal(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    by_reason = {bad.reason: bad for bad in encoding.poison("shown\x1b[2J\u202e")}
    poison = [by_reason[name] for name in ("truncated", "bad_magic", "empty", "invalid")]
    offsets = await died(around, [bad.record for bad in poison])
    for offset, bad in zip(offsets, poison, strict=True):
        answer = dead(around, "show", f"{TOPIC}/{PARTITION}/{offset}")
        assert answer.returncode == 0, answer.stderr
        assert f"{offset}  {bad.reason}\n" in answer.stdout
        assert "\u202e" not in answer.stdout
        assert all(character.isprintable() or character == "\n" for character in answer.stdout)
        if bad.reason == "invalid":
            assert '"turn_ms": ' in answer.stdout
        if bad.reason == "bad_magic":
            assert "00000000  " in answer.stdout
    said = json.loads(dead(around, "show", TOPIC, str(PARTITION), str(offsets[0]), "--json").stdout)
    assert poison[0].record.value is not None
    assert base64.b64decode(said["value"]) == poison[0].record.value
    assert said["event"] is None
    assert said["problem"] == "0 bytes are too few for an event"
    said = json.loads(
        dead(around, "show", TOPIC, str(PARTITION), str(offsets[-1]), "--json").stdout
    )
    header = {"name": "trace", "value": base64.b64encode(b"\x00\xff\x1b[31m").decode()}
    assert said["headers"] == [header]
    assert said["event"]["session"].startswith("shown")


async def test_drop_leaves_letters_out_of_the_list_and_keeps_them(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    poison = next(encoding.poison("dropped")).record
    first, second = await died(around, [poison, poison])
    names = [f"{TOPIC}/{PARTITION}/{offset}" for offset in (first, second)]

    answer = dead(around, "drop", *names, "--dry-run")
    assert answer.stdout.endswith("would drop 2 dead letters\n")
    assert names[0] in answer.stdout
    assert marks(around, PARTITION, first) == []

    answer = dead(around, "drop", names[0], "--yes", "--note", "a test", "--by", "me")
    assert answer.stdout == "dropped 1 dead letter\n"
    here = ("--topic", TOPIC, "--partition", str(PARTITION))
    assert first not in offsets_of(listed(around, *here))
    assert second in offsets_of(listed(around, *here))
    exactly = (*here, "--offset", str(first))
    (one,) = listed(around, "--all", *exactly)["letters"]
    (mark,) = one["marks"]
    assert (mark["mark"], mark["marked_by"], mark["note"]) == ("dropped", "me", "a test")
    assert "dropped: " in dead(around, "show", names[0]).stdout
    assert dead(around, "drop", names[0], "--yes").stdout == "dropped 0 dead letters\n"
    assert replayed(around, *exactly)["replayed"] == []
    (again,) = replayed(around, names[0])["replayed"]
    wait_until(lambda: died_of(around, PARTITION, [again["at_offset"]]) != [])


@pytest.mark.parametrize("command", ["show", "replay", "drop"])
def test_dead_says_so_when_there_is_no_such_letter(around: Surroundings, command: str) -> None:
    answer = dead(around, command, f"{TOPIC}/0/987654321")

    assert answer.returncode == 1
    assert answer.stdout == ""
    assert f"there is no dead letter {TOPIC}/0/987654321" in answer.stderr


async def test_replay_and_drop_ask_and_change_nothing_without_a_terminal(
    around: Surroundings, worker: WorkerProcess, encoding: Encoding
) -> None:
    (offset,) = await died(around, [next(encoding.poison("asked")).record])
    for command in ("replay", "drop"):
        answer = dead(around, command, f"{TOPIC}/{PARTITION}/{offset}")
        assert answer.returncode == 1
        assert "give --yes" in answer.stderr
    assert marks(around, PARTITION, offset) == []


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"ANABRANCH_CLICKHOUSE__URL": "http://127.0.0.1:1"}, "does not answer"),
        ({"ANABRANCH_CLICKHOUSE__DATABASE": "empty"}, "`anabranch migrate` makes the tables"),
    ],
)
def test_list_says_so_when_there_is_nothing_to_ask(
    around: Surroundings, environment: Mapping[str, str], says: str
) -> None:
    answer = anabranch("dead", "list", environment={**around.environment, **environment})

    assert answer.returncode == 1
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr
