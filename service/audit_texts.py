"""What an audit entry may hold of what was sent and stored: no secret, and never too much."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

LONGEST_STATE = 400_000
"""Characters of a state as JSON text, all of them ASCII; as schemas/audit.avsc says."""
REDACTED = "[redacted]"

# Whole names, not parts of them: `output_tokens` and `hash_version` are no secrets.
_SECRET_NAMES = frozenset(
    {"secret", "secrets", "hash", "hashes", "password", "token", "tokens", "authorization"}
    | {"api_key", "client_secret", "private_key", "credentials"}
)


def state_text(state: Mapping[str, Any] | None) -> str | None:
    """As JSON without secrets. One that is too long gives its beginning and its checksum."""
    if state is None:
        return None
    text = json.dumps(redacted(state), sort_keys=True, default=str)
    if len(text) <= LONGEST_STATE:
        return text
    return json.dumps(
        {
            "too_long": f"{len(text)} characters of {LONGEST_STATE} that fit",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "begins": text[: LONGEST_STATE // 4],
        }
    )


def redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): REDACTED if str(name).lower() in _SECRET_NAMES else redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redacted(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no number for it
    return value


def line(text: str, longest: int, *, breaks: bool = False) -> str:
    """What a stranger may have written, as one line (or several) that a terminal can be shown."""
    kept = "\n\t" if breaks else ""
    safe = "".join(
        char if char in kept or char.isprintable() else ascii(char)[1:-1] for char in text
    )
    return safe if len(safe) <= longest else f"{safe[: longest - 3]}..."
