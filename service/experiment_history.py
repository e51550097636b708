"""What the versions of an experiment say of its units: which may be compared? Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import takewhile

from anabranch.definition_records import Document
from anabranch.plans import Status


def comparable(history: Sequence[Document]) -> tuple[int, int] | None:
    """The versions, from and to, under which units were shared out as they are now; None where
    there never was another way.

    Units that came at another time under other weights must not be put together with them: what
    changes from day to day would look like an effect (Simpson's paradox). `history` ends with the
    current version; of versions before it that are not known, nothing is known to be comparable.
    """
    current = history[-1]
    now = split(current)
    same = takewhile(
        lambda one: split(one) == now and one.status != Status.DELETED.value, reversed(history)
    )
    since = min((one.version for one in same), default=current.version)
    return None if since <= 1 else (since, current.version)


def splits(history: Sequence[Document]) -> Mapping[int, Hashable]:
    """By version, how it shares out new units; equal ones do it alike."""
    return {one.version: split(one) for one in history}


def split(document: Document) -> Hashable:
    """While a phase is opening, only units on which old and new weights agree take part."""
    definition = document.definition
    phases = definition.get("phases") or ()
    is_opening = bool(phases and phases[-1].get("opening"))
    variations = definition.get("variations") or ()
    return is_opening, tuple((one.get("key"), one.get("weight")) for one in variations)
