"""Whoever reads the definition log, whenever, ends with the same documents: writers race, copies
follow, and compaction takes what is older than its lag."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from anabranch.definition_records import NOTHING, Document, Documents, LogRecord, fold_all
from tests.unit.test_definition_records import a_record

KEYS = ("npc_tone", "holdout:spring")
WRITERS = ("ann", "bob", "eve")


def compacted(log: list[LogRecord], below: int) -> list[LogRecord]:
    """As Kafka does it: of each key's records below an offset, the last stays."""
    last = {record.key: record.offset for record in log if record.offset < below}
    return [record for record in log if record.offset >= below or last[record.key] == record.offset]


def copy_of(winner: Document, offset: int) -> LogRecord:
    return a_record(
        offset,
        winner.version,
        key=winner.key,
        by=winner.changed_by,
        definition=winner.text,
        changed_at=winner.changed_at_ms,
        confirms=winner.offset,
    )


def first_come_first_served(log: list[LogRecord]) -> dict[str, tuple[int, int]]:
    """The rule in its plain words, on a log that nothing was taken from: version and offset."""
    current: dict[str, tuple[int, int]] = {}
    for record in log:
        assert isinstance(record.content, dict)
        key, version = record.content["key"], record.content["version"]
        if record.content["confirms"] is None and version == current.get(key, (0, 0))[0] + 1:
            current[key] = (version, record.offset)
    return current


class Racing(RuleBasedStateMachine):
    """Each writer and reader is somewhere in the log; nobody waits for anybody."""

    @initialize()
    def begin(self) -> None:
        self.whole: list[LogRecord] = []  # what was ever written
        self.log: list[LogRecord] = []  # what Kafka still has
        self.views: dict[str, Documents] = dict.fromkeys(WRITERS, NOTHING)

    def _append(self, record: LogRecord) -> None:
        self.whole.append(record)
        self.log.append(record)

    @rule(name=st.sampled_from(WRITERS), records=st.integers(1, 6))
    def read(self, name: str, records: int) -> None:
        view = self.views[name]
        coming = [record for record in self.log if record.offset >= view.revision][:records]
        self.views[name] = fold_all(view, coming)[0]

    @rule(name=st.sampled_from(WRITERS))
    def start_again(self, name: str) -> None:
        """A service takes changes only once it has read to the end."""
        self.views[name] = fold_all(NOTHING, self.log)[0]

    @rule(name=st.sampled_from(WRITERS), key=st.sampled_from(KEYS))
    def write(self, name: str, key: str) -> None:
        known = self.views[name].get(key)
        version = 1 if known is None else known.version + 1
        self._append(a_record(len(self.whole), version, key=key, by=name))

    @rule(name=st.sampled_from(WRITERS))
    def write_copies(self, name: str) -> None:
        """From wherever the writer is, which may be far behind."""
        view = self.views[name]
        for key in view.shadowed:
            self._append(copy_of(view[key], len(self.whole)))

    @rule(share=st.floats(0, 1))
    def compact(self, share: float) -> None:
        """The lag has passed for a part of the log: what is hidden in it was confirmed since."""
        for key in (documents := fold_all(NOTHING, self.log)[0]).shadowed:
            self._append(copy_of(documents[key], len(self.whole)))
        self.log = compacted(self.log, round(share * len(self.whole)))

    @invariant()
    def everybody_agrees_in_the_end(self) -> None:
        fresh, _ = fold_all(NOTHING, self.log)
        told = {key: (document.version, document.offset) for key, document in fresh.items()}
        assert told == first_come_first_served(self.whole)
        for view in self.views.values():
            rest = [record for record in self.log if record.offset >= view.revision]
            assert fold_all(view, rest)[0] == fresh


Racing.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestReadersAgreeHoweverWritersRace = Racing.TestCase


@given(st.lists(st.integers(1, 4), max_size=12), st.integers(0, 12))
def test_fold_gives_the_same_when_a_prefix_is_read_twice(versions: list[int], again: int) -> None:
    log = [a_record(offset, version) for offset, version in enumerate(versions)]
    once, _ = fold_all(NOTHING, log)
    assert fold_all(once, log[:again])[0] == once


def test_compaction_before_the_copy_would_keep_the_loser() -> None:
    """What the topic's compaction lag is for."""
    log = [a_record(0, 1, by="ann"), a_record(1, 2, by="ann"), a_record(2, 2, by="bob")]
    assert fold_all(NOTHING, log)[0]["npc_tone"].changed_by == "ann"
    assert fold_all(NOTHING, compacted(log, 3))[0]["npc_tone"].changed_by == "bob"
