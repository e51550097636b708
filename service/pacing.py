"""A steady rate from a loop that wakes up now and then. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """`rate` tokens a second, of which at most `burst_seconds` worth are kept.

    What a slow caller misses beyond that is gone: after a stall it goes on at its rate instead of
    flooding.
    """

    rate: float
    started: float
    burst_seconds: float = 1.0
    missed: float = 0.0
    _tokens: float = field(init=False, default=0.0)
    _seen: float = field(init=False)

    def __post_init__(self) -> None:
        self._seen = self.started

    def take(self, now: float) -> int:
        """Every whole token there is, at `now` seconds of the same clock as `started`."""
        self._tokens += (now - self._seen) * self.rate
        self._seen = now
        overflow = max(0.0, self._tokens - max(1.0, self.rate * self.burst_seconds))
        self.missed += overflow
        taken = int(self._tokens - overflow)
        self._tokens -= overflow + taken
        return taken
