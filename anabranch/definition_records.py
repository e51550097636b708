"""The definition log folded into documents. Pure: whoever reads the same log gets the same answer.

Of a key's records the one with the highest version wins, and of one version the first in the log.
A writer knows the current version and appends the next, so this is `version = current + 1 wins`;
said as a maximum it is also true of a log that compaction has thinned out, in which versions are
missing. A copy of a winner counts as standing where the winner stood (docs/adr/0004).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

EXPERIMENT_KIND = "experiment"
KEPT_VERSIONS = 1_000
"""Versions of one key that are held in memory, the newest."""


class Outcome(StrEnum):
    WON = "won"
    LOST = "lost"
    """Another record has this version, and came first; or a later version is there already."""
    REPEATED = "repeated"
    """A copy of the winner, or the winner itself read twice."""
    UNREADABLE = "unreadable"


class Unreadable(NamedTuple):
    reason: str


class LogRecord(NamedTuple):
    offset: int
    key: bytes | None
    content: Mapping[str, Any] | Unreadable
    """The fields of `schemas/experiment.avsc`, times as milliseconds."""


class Verdict(NamedTuple):
    offset: int
    key: str | None
    outcome: Outcome
    reason: str | None = None
    """Why it cannot be read."""


@dataclass(frozen=True)
class Document:
    """One version of a definition. Equal ones say the same and stood at the same place."""

    key: str
    version: int
    status: str
    text: str
    """The definition as the text of a JSON object."""
    changed_by: str
    changed_at_ms: int
    comment: str
    offset: int
    """Where it stands in the log; a copy has the offset of what it is a copy of."""

    @cached_property
    def definition(self) -> Mapping[str, Any]:
        """Read-only at every depth: arrays are tuples."""
        return _parsed(self.text)

    @property
    def kind(self) -> str:
        kind, colon, _ = self.key.partition(":")
        return kind if colon else EXPERIMENT_KIND

    @property
    def name(self) -> str:
        """The key without its kind."""
        kind, colon, name = self.key.partition(":")
        return name if colon else kind

    def precedes(self, other: Document) -> bool:
        """Whether the other one wins over this one."""
        return (self.version, -self.offset) < (other.version, -other.offset)


@dataclass(frozen=True, eq=False)
class Documents(Mapping[str, Document]):
    """The current document of each key. Equal ones hold the same, however they were read."""

    current: Mapping[str, Document]
    revision: int = 0
    """The offset behind the last record folded."""
    changed_at_ms: int = 0
    past: Mapping[str, tuple[Document, ...]] = field(default_factory=dict)
    """Superseded versions of each key, oldest first, as far as the log still has them."""
    shadowed: frozenset[str] = frozenset()
    """Keys whose last record in the log is not the winner. Compaction would keep that record, so
    a copy of the winner has to follow it."""

    def __getitem__(self, key: str) -> Document:
        return self.current[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.current)

    def __len__(self) -> int:
        return len(self.current)

    def of_kind(self, kind: str) -> Iterator[Document]:
        return (document for document in self.current.values() if document.kind == kind)

    def history(self, key: str) -> tuple[Document, ...]:
        """Oldest first, the current one last; empty where there never was one."""
        document = self.current.get(key)
        return () if document is None else (*self.past.get(key, ()), document)


NOTHING = Documents(MappingProxyType({}))


def documents_of(documents: Iterable[Document], revision: int) -> Documents:
    """As they were kept somewhere else; without their history."""
    current = {document.key: document for document in documents}
    changed_at = max((document.changed_at_ms for document in current.values()), default=0)
    return Documents(MappingProxyType(current), revision, changed_at)


def fold(documents: Documents, record: LogRecord) -> tuple[Documents, Verdict]:
    after, verdicts = fold_all(documents, (record,))
    return after, verdicts[0]


def fold_all(
    documents: Documents, records: Iterable[LogRecord]
) -> tuple[Documents, tuple[Verdict, ...]]:
    """In the order of the log."""
    current, past = dict(documents.current), dict(documents.past)
    shadowed = set(documents.shadowed)
    revision, changed_at = documents.revision, documents.changed_at_ms
    verdicts = []
    for record in records:
        revision = record.offset + 1
        found = _document(record)
        if isinstance(found, Unreadable):
            key = _key_text(record.key)
            verdicts.append(Verdict(record.offset, key, Outcome.UNREADABLE, found.reason))
            if key in current:
                shadowed.add(key)
            continue
        key = found.key
        before = current.get(key)
        outcome = _outcome(before, found)
        verdicts.append(Verdict(record.offset, key, outcome))
        if outcome is Outcome.LOST:
            shadowed.add(key)
            continue
        shadowed.discard(key)
        if outcome is Outcome.WON:
            if before is not None and before.version < found.version:
                # replace() leaves out the parsed definition, which is several times the text.
                past[key] = (*past.get(key, ()), replace(before))[-(KEPT_VERSIONS - 1) :]
            current[key] = found
            changed_at = max(changed_at, found.changed_at_ms)
    folded = Documents(
        MappingProxyType(current), revision, changed_at, MappingProxyType(past), frozenset(shadowed)
    )
    return folded, tuple(verdicts)


def changed_keys(before: Documents, after: Documents) -> frozenset[str]:
    # What did not change is the same object, as a rule: that is quick to see.
    return frozenset(
        key
        for key in before.current.keys() | after.current.keys()
        if (was := before.current.get(key)) is not (is_now := after.current.get(key))
        and was != is_now
    )


def _outcome(before: Document | None, found: Document) -> Outcome:
    if before is None or before.precedes(found):
        return Outcome.WON
    return Outcome.LOST if found.precedes(before) else Outcome.REPEATED


def _document(record: LogRecord) -> Document | Unreadable:
    fields = record.content
    if isinstance(fields, Unreadable):
        return fields
    key = _key_text(record.key)
    if not key or key != fields["key"]:
        return Unreadable(f"its key is {record.key!r}, and its field `key` {fields['key']!r}")
    if fields["version"] < 1:
        return Unreadable(f"version {fields['version']} is below 1")
    confirms = fields.get("confirms")
    if confirms is not None and not 0 <= confirms < record.offset:
        return Unreadable(f"it confirms offset {confirms}, which does not lie before it")
    document = Document(
        key=key,
        version=fields["version"],
        status=fields["status"],
        text=fields["definition"],
        changed_by=fields["changed_by"],
        changed_at_ms=fields["changed_at"],
        comment=fields["comment"],
        offset=record.offset if confirms is None else confirms,
    )
    try:
        # Parsed here, once, so that no reader of `definition` can fail later.
        _ = document.definition
    except (ValueError, RecursionError) as error:
        return Unreadable(f"its definition is not a JSON object: {error}")
    return document


def _key_text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def _parsed(text: str) -> Mapping[str, Any]:
    # Made read-only while it is parsed: a second walk takes ten times as long.
    parsed = json.loads(text, parse_constant=_no_such_number, object_hook=_read_only)
    if not isinstance(parsed, MappingProxyType):
        raise ValueError(f"it is of type {type(parsed).__name__}")  # noqa: TRY004  about the text
    return parsed


def _no_such_number(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")


def _read_only(parsed: dict[str, Any]) -> Mapping[str, Any]:
    for name, value in parsed.items():
        if type(value) is list:
            parsed[name] = _tuple(value)
    return MappingProxyType(parsed)


def _tuple(items: list[Any]) -> tuple[Any, ...]:
    return tuple(_tuple(item) if type(item) is list else item for item in items)
