"""A bad deploy is not a bad event: too many dead letters in a minute stop the worker. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

_SPAN_SECONDS = 60.0


class TooManyDeadError(Exception):
    """The share of dead letters is above what the settings allow. The text says what to do."""


class _Seen(NamedTuple):
    at: float
    records: int
    dead: int


@dataclass(slots=True)
class DeadLimit:
    share: float
    at_least: int
    _seen: deque[_Seen] = field(default_factory=deque)

    def count(self, topic: str, records: int, dead: int, example: str, now: float) -> None:
        """Called before anything of a batch is stored, so that it is formed again later."""
        while self._seen and self._seen[0].at < now - _SPAN_SECONDS:
            self._seen.popleft()
        self._seen.append(_Seen(now, records, dead))
        all_records = sum(seen.records for seen in self._seen)
        all_dead = sum(seen.dead for seen in self._seen)
        if all_dead >= self.at_least and all_dead > self.share * all_records:
            raise TooManyDeadError(
                f"{all_dead:,} of the last minute's {all_records:,} records cannot be stored, more "
                f"than the share {self.share:g} that ANABRANCH_WORKER__DEAD_SHARE allows. The last "
                f"was of {topic}: {example}. Nothing of this batch was stored, nothing is lost: "
                "put right what writes these events, or raise the share, and start again"
            )
