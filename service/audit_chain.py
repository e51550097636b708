"""How one audit entry follows another: by a hash over itself and the hash of the one before.

Each life of a process that writes entries has a chain of its own, so that several instances need
not agree on an order. A chain opens with the heads of the others that were known then: to take away
the end of an older chain, or all of it, shows in every chain that was opened after it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from anabranch.events import AuditEntry

OPEN = "audit.open"
"""The action of the first entry of each chain; `after` holds the heads of others."""


class Head(NamedTuple):
    """The last entry of a chain."""

    sequence: int
    hash: str


def hash_of(fields: Mapping[str, Any]) -> str:
    """Over all fields but the hash itself, names sorted, as JSON without spaces in ASCII.

    Without those that are empty: a field that a later schema adds leaves old hashes as they are.
    """
    sealed = {name: value for name, value in fields.items() if name != "hash" and value}
    canonical = json.dumps(sealed, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


class Chain:
    """One that this process writes."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name or secrets.token_hex(8)
        self.head = Head(0, "")

    def seal(self, entry: AuditEntry) -> AuditEntry:
        linked = replace(
            entry, chain=self.name, sequence=self.head.sequence + 1, previous_hash=self.head.hash
        )
        sealed = replace(linked, hash=hash_of(linked.avro()))
        self.head = Head(sealed.sequence, sealed.hash)
        return sealed
