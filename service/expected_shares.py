"""Which share of units each version of a definition gave to each variation. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

from pydantic import ValidationError

from anabranch.definition_records import Document
from anabranch.definitions import Definition
from analysis.health_arrivals import Shares, expected_shares


def shares_by_version(history: Sequence[Document], now: datetime) -> Mapping[int, Shares]:
    """Of every version that this release can read; `history` has the oldest first.

    A ramp may raise coverage while a version is in force: its end counts, when most units came.
    """
    ends = [
        datetime.fromtimestamp(after.changed_at_ms / 1000, UTC) for _, after in pairwise(history)
    ]
    found = {}
    for document, end in zip(history, [*ends, now], strict=True):
        # The newest has no end yet, so what is found for it is not worth keeping.
        shares = _shares(document.text, end) if end is now else _past_shares(document.text, end)
        if shares is not None:
            found[document.version] = shares
    return found


@lru_cache(maxsize=4_096)
def _definition(text: str) -> Definition | None:
    try:
        return Definition.model_validate_json(text)
    except ValidationError:
        return None  # of another release; its units are counted as not judged


def _shares(text: str, at: datetime) -> Shares | None:
    definition = _definition(text)
    return None if definition is None else expected_shares(definition, at)


_past_shares = lru_cache(maxsize=4_096)(_shares)
