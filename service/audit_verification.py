"""Holds the audit log against its own chains. Pure: entries come in the order of the log.

What one look cannot see is an end that was cut off, of chains that nothing was opened after, and a
log that was written anew as a whole. Heads that were kept elsewhere show both.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from service.audit_chain import Head, hash_of

# A process sends fewer at once, and sends the same again where no answer came.
_REMEMBERED = 200


class Breach(NamedTuple):
    chain: str
    sequence: int
    offset: int | None
    """Where it stands in Kafka and ClickHouse; None for what is not there."""
    event_id: str
    problem: str

    def __str__(self) -> str:
        place = "" if self.offset is None else f" (offset {self.offset}, event {self.event_id})"
        return f"chain {self.chain or '-'}, entry {self.sequence}{place}: {self.problem}"


class Vouched(NamedTuple):
    """A head that somebody has seen."""

    chain: str
    head: Head
    by: str


def vouched_in(openings: Iterable[Mapping[str, Any]]) -> Iterator[Vouched]:
    """By the first entries of chains, which hold the heads of the others."""
    for entry in openings:
        try:
            heads = json.loads(entry["after"] or "{}").get("heads", {})
            for chain, (sequence, hash_) in heads.items():
                yield Vouched(chain, Head(sequence, hash_), f"the opening of {entry['chain']}")
        except (ValueError, TypeError, AttributeError):
            continue  # no opening of ours; the hash of the entry tells


class ChainWalk:
    """Entry by entry, and at the end `breaches`."""

    def __init__(self, vouched: Iterable[Vouched] = (), *, listed: int = 1_000) -> None:
        self.entries = 0
        self.repeated = 0
        self.total = 0
        self.breaches: list[Breach] = []
        """The first ones; `total` counts them all."""
        self.heads: dict[str, Head] = {}
        self._seen: dict[str, OrderedDict[int, str]] = {}
        self._listed = listed
        self._vouched: dict[tuple[str, int], list[Vouched]] = {}
        for one in vouched:
            self._vouched.setdefault((one.chain, one.head.sequence), []).append(one)

    def add(self, offset: int, entry: Mapping[str, Any]) -> None:
        self.entries += 1
        chain, sequence, hash_ = entry["chain"], entry["sequence"], entry["hash"]
        seen = self._seen.setdefault(chain, OrderedDict())
        before = self.heads.get(chain, Head(0, ""))
        if hash_of(entry) != hash_:
            self._breach(offset, entry, "it was changed: its hash is not that of what it holds")
        elif not chain:
            self._breach(offset, entry, "it is in no chain: no service has written it")
        elif seen.get(sequence) == hash_:
            self.repeated += 1
            return
        elif sequence <= before.sequence:
            self._breach(offset, entry, f"it comes after entry {before.sequence}, as another one")
        elif sequence != before.sequence + 1:
            gap = f"{before.sequence + 1} to {sequence - 1}"
            self._breach(offset, entry, f"the entries before it are missing: {gap}")
        elif entry["previous_hash"] != before.hash:
            said = f"it does not follow entry {before.sequence}: that was another one when it came"
            self._breach(offset, entry, said)
        for one in self._vouched.pop((chain, sequence), []):
            if one.head.hash != hash_:
                self._breach(offset, entry, f"it is not the one that {one.by} has seen")
        # On from here, so that one breach is told once.
        if sequence > before.sequence:
            self.heads[chain] = Head(sequence, hash_)
        seen[sequence] = hash_
        if len(seen) > _REMEMBERED:
            seen.popitem(last=False)

    def finish(self) -> None:
        """After the last entry: what was seen once and is not there."""
        for (chain, sequence), several in sorted(self._vouched.items()):
            last = self.heads.get(chain, Head(0, "")).sequence
            said = f"it is missing, and {several[0].by} has seen it; the chain ends with {last}"
            self._tell(Breach(chain, sequence, None, "", said))
        self._vouched.clear()

    def _breach(self, offset: int, entry: Mapping[str, Any], problem: str) -> None:
        where = (entry["chain"], entry["sequence"], offset, entry["event_id"])
        self._tell(Breach(*where, problem))

    def _tell(self, breach: Breach) -> None:
        self.total += 1
        if len(self.breaches) < self._listed:
            self.breaches.append(breach)
