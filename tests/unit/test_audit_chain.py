"""What tampering with the audit log looks like."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from anabranch.events import AuditEntry
from service.audit_chain import Chain, Head, hash_of
from service.audit_verification import Breach, ChainWalk, Vouched, vouched_in

Entry = dict[str, Any]


def entry(number: int, **fields: Any) -> AuditEntry:
    given = {"actor": "a", "action": "x.y", "target": str(number), "ts": number, **fields}
    return AuditEntry(event_id=f"e{number}", sequence=0, **given)


def log() -> list[Entry]:
    """Of two chains; the second opens when the first has three entries, and says so."""
    one, two = Chain("one"), Chain("two")
    opening = {"action": "audit.open"}
    entries = [one.seal(entry(0, after='{"heads": {}}', **opening))]
    entries += [one.seal(entry(number)) for number in (1, 2)]
    heads = json.dumps({"heads": {"one": one.head}})
    entries.append(two.seal(entry(3, after=heads, **opening)))
    entries += [chain.seal(entry(4 + n)) for n, chain in enumerate((one, two, one, two))]
    return [sealed.avro() for sealed in entries]


def breaches(entries: Sequence[Entry], kept: Sequence[Vouched] = ()) -> list[Breach]:
    openings = [entry for entry in entries if entry["action"] == "audit.open"]
    walk = ChainWalk((*vouched_in(openings), *kept))
    for offset, found in enumerate(entries):
        walk.add(offset, found)
    walk.finish()
    return walk.breaches


def test_log_as_it_was_written_is_intact() -> None:
    assert breaches(log()) == []


@pytest.mark.parametrize(
    ("place", "change", "said"),
    [
        pytest.param(1, {"actor": "b"}, "it was changed", id="the actor"),
        pytest.param(1, {"after": "{}"}, "it was changed", id="a state that was null"),
        pytest.param(1, {"ts": 99}, "it was changed", id="the time"),
        pytest.param(1, {"hash": "0" * 64}, "it was changed", id="the hash"),
        pytest.param(1, {"chain": "two"}, "it was changed", id="the chain"),
        pytest.param(1, {"sequence": 3}, "it was changed", id="the place"),
        pytest.param(1, {"chain": "", "sequence": 0}, "it was changed", id="out of the chain"),
    ],
)
def test_changed_entry_is_named(place: int, change: Entry, said: str) -> None:
    entries = log()
    entries[place] |= change
    first = breaches(entries)[0]
    assert (first.offset, first.event_id) == (place, f"e{place}")
    assert said in first.problem


@pytest.mark.parametrize("field", [name for name in log()[0] if name != "hash"])
def test_hash_covers_every_field(field: str) -> None:
    found = log()[4]
    other = {**found, field: 7 if isinstance(found[field], int) else "other"}
    assert hash_of(other) != hash_of(found)


def test_hash_of_an_entry_stays_when_a_later_schema_adds_a_field() -> None:
    found = log()[4]
    assert hash_of({**found, "added_later": ""}) == found["hash"]


def rehashed(entries: list[Entry], place: int) -> None:
    entries[place]["hash"] = hash_of(entries[place])


def changed_with_its_hash(entries: list[Entry]) -> None:
    entries[4]["actor"] = "b"
    rehashed(entries, 4)


def taken_from_the_middle(entries: list[Entry]) -> None:
    del entries[4]


def added_without_a_chain(entries: list[Entry]) -> None:
    entries.insert(2, entry(9).avro())
    rehashed(entries, 2)


def added_in_a_place_that_is_taken(entries: list[Entry]) -> None:
    entries.append({**entries[4], "actor": "b"})
    rehashed(entries, -1)


def end_cut_off(entries: list[Entry]) -> None:
    """Of the first chain, down to less than the second one has seen."""
    entries[:] = [e for e in entries if e["chain"] == "two" or e["sequence"] < 3]


def whole_chain_taken(entries: list[Entry]) -> None:
    entries[:] = [e for e in entries if e["chain"] == "two"]


def chain_made_anew(entries: list[Entry]) -> None:
    made = Chain("one")
    fresh = [made.seal(entry(100 + n)).avro() for n in range(5)]
    entries[:] = fresh + [e for e in entries if e["chain"] == "two"]


@pytest.mark.parametrize(
    ("tamper", "chain", "sequence", "said"),
    [
        (changed_with_its_hash, "one", 5, "does not follow entry 4"),
        (taken_from_the_middle, "one", 5, "entries before it are missing: 4 to 4"),
        (added_without_a_chain, "", 0, "in no chain"),
        (added_in_a_place_that_is_taken, "one", 4, "comes after entry 5, as another one"),
        (end_cut_off, "one", 3, "it is missing, and the opening of two has seen it"),
        (whole_chain_taken, "one", 3, "the chain ends with 0"),
        (chain_made_anew, "one", 3, "not the one that the opening of two has seen"),
    ],
)
def test_tampering_is_told_once_with_its_place(
    tamper: Callable[[list[Entry]], None], chain: str, sequence: int, said: str
) -> None:
    entries = log()
    tamper(entries)
    (breach,) = breaches(entries)
    assert (breach.chain, breach.sequence) == (chain, sequence)
    assert said in str(breach)


def test_heads_that_were_kept_elsewhere_show_an_end_that_was_cut_off() -> None:
    entries = log()
    kept = [Vouched("two", Head(3, entries[-1]["hash"]), "heads.json")]
    assert breaches(entries, kept) == []
    assert breaches(entries[:-1]) == []
    (breach,) = breaches(entries[:-1], kept)
    assert "heads.json has seen it; the chain ends with 2" in breach.problem


def test_entry_that_was_stored_twice_breaks_nothing() -> None:
    entries = log()
    assert breaches([*entries[:3], *entries[1:]]) == []
