"""The audit log's writer, before a Kafka that the test plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fastapi import Request

from anabranch.events import AuditEntry
from service.access_settings import LimitSettings
from service.audit import Audit
from service.audit_texts import LONGEST_STATE, line, redacted, state_text
from service.audit_verification import ChainWalk, vouched_in
from service.callers import Caller, set_caller
from service.event_log import NotStoredError
from service.metrics import ServiceMetrics
from service.roles import Role
from sinks.clickhouse import ClickHouseUnavailable


class Topic:
    """Kafka: away so many times, and then again; what it took stays in the order it came."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.failures = 0
        self.stores_although_it_fails = False

    async def write(self, entries: Sequence[AuditEntry]) -> None:
        if self.failures:
            self.failures -= 1
            if self.stores_although_it_fails:
                self.entries.extend(entries)
            raise NotStoredError("Kafka is away")
        self.entries.extend(entries)


class House:
    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        self.topic = Topic()
        self.metrics = ServiceMetrics()
        self.heads: Mapping[str, tuple[int, str]] | None = {}
        self.waits: list[float] = []
        self.audit = Audit(
            self.topic.write,
            self._heads,
            self.metrics,
            LimitSettings(**limits),
            clock=lambda: self.now,
            sleep=self._sleep,
        )
        self.audit.start()

    async def _heads(self) -> Mapping[str, tuple[int, str]]:
        if self.heads is None:
            raise ClickHouseUnavailable("no ClickHouse")
        return self.heads

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def stop(self) -> None:
        await self.audit.stop(flush_seconds=5)


def request(address: str = "10.0.0.1", path: str = "/v1/keys") -> Request:
    return Request(
        {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [],
            "client": (address, 1),
            "request_id": "r-1",
        }
    )


def walked(entries: Sequence[AuditEntry]) -> ChainWalk:
    fields = [entry.avro() for entry in entries]
    walk = ChainWalk(vouched_in(entry for entry in fields if entry["action"] == "audit.open"))
    for offset, entry in enumerate(fields):
        walk.add(offset, entry)
    walk.finish()
    return walk


async def test_entry_tells_who_did_what_by_which_request() -> None:
    house = House()
    asked = request()
    set_caller(asked, Caller.of_role(Role.ADMIN))
    await house.audit.record(asked, "key.create", "api_key:1", None, {"name": "ci"}, "a\nreason")
    await house.audit.record("scheduler", "experiment.stop", "tone", {"status": "running"}, None)
    await house.stop()
    _, made, stopped = house.topic.entries
    assert (made.actor, made.action, made.target) == ("admin", "key.create", "api_key:1")
    assert (made.before, made.after) == (None, '{"name": "ci"}')
    assert (made.request_id, made.comment) == ("r-1", "a\nreason")
    assert (stopped.actor, stopped.request_id, stopped.after) == ("scheduler", "", None)


async def test_chain_opens_with_the_heads_of_others_and_only_when_there_is_an_entry() -> None:
    house = House()
    house.heads = {"older": (7, "abc")}
    await asyncio.sleep(0)
    assert house.topic.entries == []
    await house.audit.record("a", "x.y", "z", None, None)
    await house.stop()
    opening, entry = house.topic.entries
    assert json.loads(opening.after or "") == {"heads": {"older": [7, "abc"]}}
    assert (opening.sequence, entry.sequence, entry.previous_hash) == (1, 2, opening.hash)


async def test_chain_opens_without_heads_when_clickhouse_is_away_and_says_so() -> None:
    house = House()
    house.heads = None
    await house.audit.record("a", "x.y", "z", None, None)
    await house.stop()
    assert json.loads(house.topic.entries[0].after or "") == {"heads_unknown": "no ClickHouse"}


async def test_entries_wait_in_order_while_kafka_is_away_and_show_in_the_readiness() -> None:
    house = House()
    house.topic.failures = 8
    seen: list[str | None] = []
    write = house.topic.write

    async def watched(entries: Sequence[AuditEntry]) -> None:
        seen.append(await house.audit.check())
        await write(entries)

    house.audit._write = watched
    records = [house.audit.record("a", "x.y", str(n), None, {"n": n}) for n in range(120)]
    await asyncio.gather(*records)
    await house.stop()
    assert seen[0] is None
    assert seen[1] == "121 entries wait for Kafka: Kafka is away"
    assert await house.audit.check() is None
    assert [entry.target for entry in house.topic.entries[1:]] == [str(n) for n in range(120)]
    assert house.waits == [0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0]
    assert house.counted("anabranch_audit_failures_total") == 8
    assert house.counted("anabranch_audit_entries_total") == 121
    assert house.counted("anabranch_audit_entries_waiting") == 0


async def test_entries_whose_answer_was_lost_come_again_unchanged_and_break_nothing() -> None:
    house = House()
    house.topic.failures, house.topic.stores_although_it_fails = 3, True
    await asyncio.gather(*(house.audit.record("a", "x.y", str(n), None, None) for n in range(9)))
    await house.stop()
    walk = walked(house.topic.entries)
    assert (walk.entries, walk.repeated, walk.breaches) == (40, 30, [])


async def test_entry_that_is_still_waiting_at_the_end_is_counted() -> None:
    house = House()
    house.topic.failures = 1_000_000
    recording = asyncio.create_task(house.audit.record("a", "x.y", "z", None, None))
    await asyncio.sleep(0)
    await house.audit.stop(flush_seconds=0.01)
    recording.cancel()
    assert house.counted("anabranch_audit_entries_lost_total", reason="at_stop") == 2


async def test_writer_that_has_ended_by_a_bug_shows_in_the_readiness() -> None:
    house = House()

    async def broken(entries: Sequence[AuditEntry]) -> None:
        raise TypeError("a bug")

    house.audit._write = broken
    recording = asyncio.create_task(house.audit.record("a", "x.y", "z", None, None))
    for _ in range(10):
        await asyncio.sleep(0)
    assert "what writes them has ended" in (await house.audit.check() or "")
    recording.cancel()
    await house.audit.stop(flush_seconds=0.01)


async def test_denied_attempts_of_one_source_are_limited_and_the_rest_is_counted() -> None:
    house = House(denied_per_minute=3)
    for _ in range(10):
        house.audit.denied(request(), "no_key", "view", None, None)
    house.audit.denied(request("10.0.0.2"), "no_key", "view", None, None)
    house.now += 60
    house.audit.denied(request(), "no_key", "view", None, None)
    await house.stop()
    denied = [json.loads(entry.after or "")["address"] for entry in house.topic.entries[1:]]
    assert denied == ["10.0.0.1"] * 3 + ["10.0.0.2"] + ["10.0.0.1"]
    assert house.counted("anabranch_audit_entries_lost_total", reason="over_limit") == 7


async def test_denied_attempts_of_many_sources_are_limited_together() -> None:
    house = House(denied_per_minute_of_all=20)
    for number in range(100):
        house.audit.denied(request(f"10.0.0.{number}"), "no_key", "view", None, None)
    await house.stop()
    assert len(house.topic.entries) == 1 + 20


async def test_denied_attempt_on_a_path_that_no_line_could_hold_is_written() -> None:
    house = House()
    house.audit.denied(request(path="/\x00\x1b[2J\udcff" + "x" * 999), "no_key", "view", None, None)
    await house.stop()
    target = house.topic.entries[1].target
    assert target.startswith(r"/\x00\x1b[2J\udcff")
    assert len(target) == 256


async def test_entry_whose_action_has_no_meaning_is_a_bug_and_told() -> None:
    house = House()
    with pytest.raises(ValueError, match="action"):
        await house.audit.record("a", "not an action", "z", None, None)
    await house.stop()


def test_secrets_are_redacted_by_their_whole_names_at_any_depth() -> None:
    given: dict[str, Any] = {
        "name": "ci",
        "secrets": [{"hash": "h"}],
        "params": {"max_output_tokens": 600, "Password": "p"},
        "hash_version": 2,
        "list": [{"token": "t"}, ({"hash": 1},)],
    }
    assert redacted(given) == {
        "name": "ci",
        "secrets": "[redacted]",
        "params": {"max_output_tokens": 600, "Password": "[redacted]"},
        "hash_version": 2,
        "list": [{"token": "[redacted]"}, [{"hash": "[redacted]"}]],
    }


def test_state_text_holds_any_value_as_json_on_printable_lines() -> None:
    text = state_text({"a": "\x00\x85\ud800 ü", "b": float("nan"), "c": {1: None}})
    assert text is not None
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["b"] == "nan"


def test_state_text_that_is_too_long_keeps_its_beginning_and_its_checksum() -> None:
    text = state_text({"a": "x" * 500_000})
    assert text is not None
    assert len(text) < LONGEST_STATE
    kept = json.loads(text)
    assert len(kept["sha256"]) == 64
    assert kept["begins"].startswith('{"a": "xxx')


def test_line_keeps_what_can_be_read() -> None:
    assert line("zoë\n", 10) == r"zoë\n"
    assert line("a\nb", 10, breaks=True) == "a\nb"
    assert line("x" * 11, 10) == "xxxxxxx..."
