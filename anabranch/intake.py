"""What the caller of `emit` pays for: the check of the event and a place in a bounded queue."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from anabranch.counters import Counters, Reason
from anabranch.errors import InvalidEventError, PersonalIdentifierError
from anabranch.fields import Event, now_ms, shown
from anabranch.pseudonyms import personal_identifier

logger = logging.getLogger(__name__)

_LOG_EVERY_SECONDS = 30.0
_CROWD = 500
_IDENTIFIERS = ("unit", "session", "player", "inviter", "invitee")


class Taken(NamedTuple):
    event: Event
    at: float
    """When it was taken, by the monotonic clock."""


class Intake:
    """The queue between the callers and the one who delivers. It knows neither thread nor Kafka."""

    def __init__(self, capacity: int, *, strict: bool, wake: Callable[[], None]) -> None:
        self.counters = Counters()
        self.capacity = capacity
        self.closed = False
        self._strict = strict
        self._wake = wake  # called by the first event after `sleep`
        self._asleep = True
        self._queue: deque[Taken] = deque()
        # Among callers. Reentrant: a signal handler or a finaliser may emit in the middle of an
        # emit. The one who delivers never takes it: a signal handler that flushes may hold it.
        self._lock = threading.RLock()
        self._log_lock = threading.Lock()
        self._settled = 0
        self._logged_at = -_LOG_EVERY_SECONDS

    @property
    def undelivered(self) -> int:
        return self.counters.emitted - self._settled

    @property
    def crowded(self) -> bool:
        """More waits than one look at the queue takes."""
        return len(self._queue) >= _CROWD

    def offer(self, event: Any) -> bool:
        """Never blocks; raises in strict mode alone, and there only for what the event says."""
        try:
            problem = (
                event.problem(now_ms())
                if isinstance(event, Event)
                else f"{shown(event)} is no event; give one of anabranch.events"
            )
        except Exception:
            # The promise to the request path: no failure in here may become the caller's.
            if self._strict:
                raise
            return self._refuse("error", exc_info=True)
        if problem is not None:
            return self._refuse_invalid(event, InvalidEventError, problem)
        if self._strict and (problem := personal_identifier_problem(event)):
            return self._refuse_invalid(event, PersonalIdentifierError, problem)
        return self._take(event)

    def _take(self, event: Event) -> bool:
        with self._lock:
            if self.closed:
                return self._refuse("closed")
            if self.counters.emitted - self._settled >= self.capacity:
                return self._refuse("queue_full")
            self._queue.append(Taken(event, time.monotonic()))
            self.counters.emitted += 1
            # After the append; `sleep` does it the other way round, so none is overlooked.
            if self._asleep:
                self._rouse()
        return True

    def _rouse(self) -> None:
        self._asleep = False
        try:
            self._wake()
        except RuntimeError:  # the system starts no thread now: the next event tries again
            self._asleep = True

    def _refuse(self, reason: Reason, *, exc_info: bool = False) -> bool:
        with self._lock:
            self.counters.dropped[reason] += 1
        self._log("dropped an event: %s", reason, exc_info=exc_info)
        return False

    def _refuse_invalid(self, event: object, error: type[InvalidEventError], problem: str) -> bool:
        kind = event.TYPE if isinstance(event, Event) else "unknown"
        with self._lock:
            self.counters.invalid[kind] = self.counters.invalid.get(kind, 0) + 1
        if self._strict:
            raise error(f"{kind}: {problem}")
        self._log("refused an invalid %s: %s", kind, problem)
        return False

    # From here on: for the one who delivers. Each figure below has no other writer.

    def take(self, most: int) -> list[Taken]:
        """The oldest events."""
        queue = self._queue
        return [queue.popleft() for _ in range(min(most, len(queue)))]

    def oldest(self) -> float | None:
        return self._queue[0].at if self._queue else None

    def sleep(self) -> bool:
        """True: nothing is there, and the next event calls `wake`. False: there is work."""
        self._asleep = True
        if self._queue:
            self._asleep = False
        return self._asleep

    def delivered(self, count: int) -> None:
        self.counters.delivered += count
        self.counters.flushes += 1
        self._settled += count

    def failed(self) -> None:
        self.counters.flush_failures += 1

    def drop(self, reason: Reason, count: int, *, exc_info: bool = False) -> None:
        """Count what was taken and will never arrive."""
        self.counters.dropped[reason] += count
        self._settled += count
        self._log("dropped %d events: %s", count, reason, exc_info=exc_info)

    def _log(self, message: str, *arguments: object, exc_info: bool = False) -> None:
        """Once in a while, with the totals, so that a broken caller does not flood the log."""
        now = time.monotonic()
        if now - self._logged_at < _LOG_EVERY_SECONDS or not self._log_lock.acquire(blocking=False):
            return
        self._logged_at = now
        self._log_lock.release()
        dropped = {reason: n for reason, n in self.counters.dropped.items() if n}
        totals = f"in all: dropped {dropped}, invalid {dict(self.counters.invalid)}"
        logger.warning("%s; %s", message % arguments, totals, exc_info=exc_info)


def personal_identifier_problem(event: Event) -> str | None:
    """What to say of the first id that is a raw e-mail address or phone number."""
    carriers: list[tuple[str, object]] = [("", event)]
    exposures = getattr(event, "exposures", ())
    carriers += [(f"exposures[{index}].", one) for index, one in enumerate(exposures)]
    for place, carrier in carriers:
        for name in _IDENTIFIERS:
            value = getattr(carrier, name, None)
            if isinstance(value, str) and (what := personal_identifier(value)):
                # The value is not shown: it would end up in a log.
                return (
                    f"{place}{name} is a raw {what}; an event must not carry one. "
                    "Give a pseudonym: Pseudonyms(key).player(raw_id)"
                )
    return None
