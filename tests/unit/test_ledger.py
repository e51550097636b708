"""The ledger under every crash that hypothesis can think of, against an oracle that counts effects.

The model has one partition's log, the group's commit with its generations, a store of two tables
that drops tokens it has seen, and workers that take one step at a time: take up, intend, insert
each table, confirm. A worker may die, or stop and wake up later, between any two steps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.ledger import Applied, Entry, Ledger, Range, read_entry, take_up

TABLES = ("raw", "windows", "batches")


@dataclass
class Log:
    """Offsets without a record in `gaps` (transaction markers, compaction) are skipped."""

    start: int = 0
    end: int = 0
    records: dict[int, str] = field(default_factory=dict)
    commit: tuple[int, str] | None = None
    generation: int = 0


class Batch(NamedTuple):
    range_: Range
    lost: int
    highest: int
    """The youngest record of it."""


def born(name: str) -> int:
    """Kafka's timestamp of an event: they are numbered in the order in which they come."""
    return int(name.split()[1])


class Store:
    def __init__(self) -> None:
        self.tokens: set[tuple[str, str]] = set()
        self.rows: dict[str, Counter[str]] = {table: Counter() for table in TABLES}
        self.batches: list[Batch] = []
        self.attempts: Counter[tuple[str, str]] = Counter()

    def insert(self, table: str, token: str, records: list[str]) -> bool:
        """Whether it was new."""
        self.attempts[table, token] += 1
        if (table, token) in self.tokens:
            return False
        self.tokens.add((table, token))
        self.rows[table].update(records)
        return True


@dataclass
class Worker:
    generation: int
    ledger: Ledger
    under_way: Range | None = None
    records: list[str] = field(default_factory=list)
    lost: int = 0
    tables_left: list[str] = field(default_factory=list)


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.log, self.store = Log(), Store()
        self.owner: Worker | None = None
        self.zombies: list[Worker] = []
        self.names, self.epochs = count(), count()
        self.produced: set[str] = set()
        self.may_be_lost: set[str] = set()
        self.remade = False

    # What happens to Kafka

    @rule(records=st.integers(1, 5), gap=st.integers(0, 2))
    def produce(self, records: int, gap: int) -> None:
        for _ in range(records):
            name = f"event {next(self.names)}"
            self.log.records[self.log.end] = name
            self.produced.add(name)
            self.log.end += 1
        self.log.end += gap

    @rule(share=st.floats(0, 1))
    def retention_deletes(self, share: float) -> None:
        start = self.log.start + int((self.log.end - self.log.start) * share)
        applied = self.log.commit[0] if self.log.commit else 0
        for offset in range(self.log.start, start):
            name = self.log.records.pop(offset, None)
            if name is not None and offset >= applied:
                self.may_be_lost.add(name)
        self.log.start = start

    @rule()
    def topic_is_made_anew(self) -> None:
        """Kafka ends the sessions and deletes the commits of a deleted topic."""
        self.remade = True
        self.may_be_lost |= set(self.log.records.values())
        self.owner, self.zombies = None, []
        self.log = Log(generation=self.log.generation + 1)

    @precondition(lambda self: self.owner is None and self.log.commit is not None)
    @rule()
    def kafka_forgets_the_commit_of_an_idle_group(self) -> None:
        assert self.log.commit is not None
        entry = read_entry(*self.log.commit)
        newest = self.store.batches[-1].range_ if self.store.batches else None
        # A week after a stop in good order.
        if entry == Entry(newest.last + 1, newest.epoch, None) if newest else False:
            self.log.commit = None

    # What workers do

    @rule()
    def assign(self) -> None:
        """To a new owner; the old one, if any, does not know yet."""
        if self.owner is not None:
            self.zombies.append(self.owner)
        self.log.generation += 1
        offset, metadata = self.log.commit or (None, "")
        applied = None
        if offset is None and self.store.batches:
            newest = self.store.batches[-1].range_
            highest = max((b.highest for b in self.store.batches), default=-1)
            later = (o for o, name in sorted(self.log.records.items()) if born(name) > highest)
            applied = Applied(newest.epoch, newest.last, next(later, None))
        ledger = take_up(
            offset, metadata, self.log.start, self.log.end, applied, f"epoch{next(self.epochs)}"
        )
        self.owner = Worker(self.log.generation, ledger)

    @rule()
    def owner_dies(self) -> None:
        self.owner = None

    @precondition(lambda self: self.owner is not None and self.owner.under_way is None)
    @rule(size=st.integers(1, 3))
    def intend(self, size: int) -> None:
        worker = self.owner
        assert worker is not None
        ledger = worker.ledger
        ledger.log_starts_at(self.log.start)
        if ledger.intended is not None:
            range_ = ledger.range_to(ledger.intended)
            if ledger.cut_at is None and self.log.end <= range_.last:
                return
        elif ledger.lost_range is not None:
            range_ = ledger.lost_range
        elif ledger.next < self.log.end:
            range_ = ledger.range_to(min(self.log.end - 1, ledger.next + size - 1))
        else:
            return
        if ledger.intended is None:
            assert self._commit(worker, ledger.intent(range_))
        ledger.now_intended(range_)
        worker.under_way, worker.lost = range_, ledger.lost(range_)
        worker.records = [
            self.log.records[offset]
            for offset in range(range_.first, ledger.readable_to(range_) + 1)
            if offset in self.log.records
        ]
        worker.tables_left = list(TABLES)

    @precondition(lambda self: self.owner is not None and self.owner.under_way is not None)
    @rule()
    def insert_one_table(self) -> None:
        assert self.owner is not None
        self._insert(self.owner)

    @precondition(lambda self: self.owner is not None and self.owner.under_way is None)
    @rule()
    def confirm(self) -> None:
        worker = self.owner
        assert worker is not None
        if not worker.ledger.confirmed and worker.ledger.intended is None:
            assert self._commit(worker, worker.ledger.entry)
            worker.ledger.now_confirmed()

    @precondition(lambda self: bool(self.zombies))
    @rule(which=st.integers(0, 9), commits=st.booleans())
    def zombie_wakes_up(self, which: int, commits: bool) -> None:
        """It inserts what it had intended before, or tries to go on."""
        zombie = self.zombies[which % len(self.zombies)]
        if zombie.under_way is not None:
            self._insert(zombie)
        elif commits:
            end = zombie.ledger.next + 1
            if zombie.ledger.intended is None:
                intent = Entry(zombie.ledger.next, zombie.ledger.epoch, end)
                assert not self._commit(zombie, intent)

    def _commit(self, worker: Worker, entry: Entry) -> bool:
        if worker.generation != self.log.generation:
            return False  # fenced
        self.log.commit = (entry.offset, entry.metadata)
        return True

    def _insert(self, worker: Worker) -> None:
        range_ = worker.under_way
        assert range_ is not None
        table = worker.tables_left.pop(0)
        new = self.store.insert(table, range_.token("t", 0), worker.records)
        if table == "batches":
            if new:
                highest = max((born(name) for name in worker.records), default=-1)
                self.store.batches.append(Batch(range_, worker.lost, highest))
            worker.ledger.now_inserted(range_)
            worker.under_way = None

    # What holds

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        for table in TABLES:
            twice = {name: n for name, n in self.store.rows[table].items() if n > 1}
            assert not twice, f"{table}: {twice}"

    @invariant()
    def nothing_is_stored_that_was_never_produced(self) -> None:
        assert self.store.rows["raw"].keys() <= self.produced

    @invariant()
    def ranges_of_an_epoch_follow_each_other(self) -> None:
        by_epoch: dict[str, list[Range]] = {}
        for range_, _, _ in self.store.batches:
            by_epoch.setdefault(range_.epoch, []).append(range_)
        for ranges in by_epoch.values():
            ordered = sorted(ranges, key=lambda r: r.first)
            for before, after in pairwise(ordered):
                assert after.first == before.last + 1

    def teardown(self) -> None:
        """Left alone, a last owner applies all that is there; what is missing is told of."""
        self.assign()
        for _ in range(1_000):
            worker = self.owner
            assert worker is not None
            if worker.under_way:
                self.insert_one_table()
                continue
            before = worker.ledger.entry
            self.intend(3)
            if (worker.under_way, worker.ledger.entry) == (None, before):
                break
        self.confirm()
        self.nothing_is_stored_twice()
        stored = set(self.store.rows["raw"])
        missing = self.produced - stored - self.may_be_lost
        assert not missing, f"missing: {missing}"
        for table in TABLES[1:]:
            different = self.store.rows[table].keys() ^ stored
            # Only a range whose records Kafka deleted between two attempts can differ, and the
            # batches say so: by what is lost, or by a range of the old topic that never ended.
            told = self.remade or any(batch.lost for batch in self.store.batches)
            assert not different or (told and different <= self.may_be_lost)


LedgerMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestLedgerUnderEveryCrash = LedgerMachine.TestCase


def test_entry_survives_the_way_through_kafkas_metadata() -> None:
    for entry in (Entry(5, "abcd1234", None), Entry(0, "abcd1234", 0), Entry(7, "0a1b", 99)):
        assert read_entry(entry.offset, entry.metadata) == entry


@pytest.mark.parametrize("metadata", ["", "x", "anabranch 1 ABC 5", "anabranch 2 abcd 5"])
def test_commit_of_a_tool_is_no_entry_of_ours(metadata: str) -> None:
    assert read_entry(5, metadata) is None


def test_take_up_begins_a_new_epoch_where_a_tool_set_the_offset() -> None:
    ledger = take_up(50, "", 0, 100, None, "new1")
    assert (ledger.epoch, ledger.next, ledger.intended) == ("new1", 50, None)
    assert ledger.notice is not None
    assert "set with a tool" in ledger.notice


def test_take_up_reads_a_topic_made_anew_from_its_start_in_a_new_epoch() -> None:
    ledger = take_up(500, Entry(500, "old1", 600).metadata, 0, 20, None, "new1")
    assert (ledger.epoch, ledger.next, ledger.intended) == ("new1", 0, None)


def test_take_up_goes_on_after_the_batches_where_kafka_forgot_the_commit() -> None:
    ledger = take_up(None, "", 10, 100, Applied("old1", 41), "new1")
    assert (ledger.epoch, ledger.next) == ("old1", 42)


def test_take_up_notices_a_topic_made_anew_that_has_grown_past_the_old_one() -> None:
    ledger = take_up(None, "", 0, 100, Applied("old1", 41, first_later=0), "new1")
    assert (ledger.epoch, ledger.next) == ("new1", 0)
    assert ledger.notice is not None
    assert "made anew" in ledger.notice


def test_ledger_counts_what_retention_deleted_of_an_intended_range_as_lost() -> None:
    ledger = take_up(10, Entry(10, "e123", 29).metadata, 15, 40, None, "new1")
    range_ = ledger.range_to(29)
    assert range_.token("t", 3) == "t:3:e123:10-29"
    assert ledger.lost(range_) == 5


def test_ledger_gives_a_range_to_what_retention_deleted_before_it_was_intended() -> None:
    ledger = take_up(10, Entry(10, "e123", None).metadata, 15, 40, None, "new1")
    gone = Range("e123", 10, 14)
    assert ledger.lost_range == gone
    ledger.now_intended(gone)
    assert ledger.lost(gone) == 5
    ledger.now_inserted(gone)
    assert ledger.entry == Entry(15, "e123", None)
    assert ledger.range_to(20) == Range("e123", 15, 20)


def test_ledger_leaves_offsets_to_a_new_epoch_where_the_broker_lost_the_end_of_the_log() -> None:
    ledger = take_up(10, Entry(10, "e123", 29).metadata, 0, 20, None, "new1")
    range_ = ledger.range_to(29)
    assert ledger.readable_to(range_) == 19
    assert ledger.lost(range_) == 10
    ledger.now_intended(range_)
    ledger.now_inserted(range_)
    assert ledger.entry == Entry(20, "new1", None)


def test_ledger_refuses_another_end_than_the_intended_one() -> None:
    ledger = take_up(10, Entry(10, "e123", 29).metadata, 0, 40, None, "new1")
    with pytest.raises(ValueError, match="10 to 29 is intended, not to 28"):
        ledger.range_to(28)
