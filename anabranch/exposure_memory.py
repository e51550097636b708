"""Which exposures were logged a short time ago, so that a unit's every request logs none anew."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable


class ExposureMemory:
    """Bounded: beyond `most` the one that was not asked for the longest is forgotten.

    What is forgotten is logged once more, with the same exposure id, so nothing counts twice. An
    entry takes about 0.3 KB where units are pseudonyms: 30 MB for 100,000.
    """

    def __init__(
        self, most: int, window_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._window = window_seconds
        self._clock = clock
        self._logged_at: OrderedDict[Hashable, float] = OrderedDict()
        # Reentrant: a signal handler may ask in the middle of an answer.
        self._lock = threading.RLock()
        self.repeated = 0
        """How often the answer was no."""

    def __len__(self) -> int:
        return len(self._logged_at)

    def is_new(self, exposure: Hashable) -> bool:
        """True once within the window: whoever hears it logs the exposure."""
        now = self._clock()
        with self._lock:
            logged_at = self._logged_at.get(exposure)
            if logged_at is not None:
                self._logged_at.move_to_end(exposure)
                if now - logged_at < self._window:
                    self.repeated += 1
                    return False
            self._logged_at[exposure] = now
            if len(self._logged_at) > self._most:
                self._logged_at.popitem(last=False)
            return True

    def forget(self, exposure: Hashable) -> None:
        """It could not be logged: the next one who asks tries again."""
        with self._lock:
            self._logged_at.pop(exposure, None)
