"""When a part that died is started again, and when that has become pointless. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class RestartRule(NamedTuple):
    """Times are in seconds, of one clock that never goes back."""

    deaths: int = 5
    within: float = 120.0  # a broker on a full disk takes half a minute to die
    first_wait: float = 0.5

    def wait(self, died_at: Sequence[float]) -> float | None:
        """How long to wait after the last of these deaths; None when the part is given up."""
        recent = sum(died_at[-1] - at < self.within for at in died_at)
        if recent >= self.deaths:
            return None
        return self.first_wait * 2.0 ** (recent - 1)


USUAL = RestartRule()
