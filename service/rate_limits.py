"""Token buckets: so many requests a second for each caller, and some more at once.

The memory is bounded: the bucket that was used longest ago goes first. It was full again by then,
unless more callers than there are buckets take turns; then nobody is refused too early.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from service.access_settings import LimitSettings
from service.callers import Caller
from service.metrics import ServiceMetrics

MOST_BUCKETS = 10_000


class Taken(NamedTuple):
    allowed: bool
    left: int
    """Requests that would still be let through at once."""
    wait_seconds: float
    """Until the next one is let through; 0 when it would be now."""
    full_seconds: float
    """Until as many are let through at once as there ever are."""


class Buckets:
    """Of one kind of key; `clock` tells seconds and never goes back."""

    def __init__(
        self, most: int = MOST_BUCKETS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, per_second: float, burst: float) -> Taken:
        now = self._clock()
        level, at = self._levels.pop(key, (burst, now))
        level = min(burst, level + (now - at) * per_second)
        if allowed := level >= 1:
            level -= 1
        self._levels[key] = (level, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        wait, full = max(0.0, 1 - level) / per_second, (burst - level) / per_second
        return Taken(allowed, int(level), wait, full)

    def __len__(self) -> int:
        return len(self._levels)


class RateLimits:
    """Of this process: behind a load balancer each instance lets as much through."""

    def __init__(
        self,
        settings: LimitSettings,
        metrics: ServiceMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._buckets = Buckets(clock=clock)
        self._refused = metrics.rate_limited

    def take(self, caller: Caller) -> tuple[Taken, dict[str, str]]:
        """What is left, and the headers that tell it (draft-ietf-httpapi-ratelimit-headers)."""
        role = caller.role.value
        per_second: float = getattr(self._settings, role)
        seconds = self._settings.burst_seconds
        burst = max(1.0, per_second * seconds)
        taken = self._buckets.take(caller.id, per_second, burst)
        headers = {
            "RateLimit-Policy": f'"{role}";q={int(burst)};w={max(1, math.ceil(seconds))}',
            "RateLimit": f'"{role}";r={taken.left};t={math.ceil(taken.full_seconds)}',
        }
        if not taken.allowed:
            self._refused.labels(role).inc()
            headers["Retry-After"] = str(max(1, math.ceil(taken.wait_seconds)))
        return taken, headers
