"""Exposures on their way to the emitter: each once within the window, and each failure counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from anabranch.assignment import Assignment
from anabranch.errors import InvalidEventError
from anabranch.exposing import exposure_of
from anabranch.exposure_memory import ExposureMemory
from anabranch.fields import Event

logger = logging.getLogger("anabranch")


class Emits(Protocol):
    """Either emitter."""

    def emit(self, event: Event) -> bool: ...


class ExposureLog:
    def __init__(self, emitter: Emits, memory: ExposureMemory, source: str) -> None:
        self.memory = memory
        self.logged = 0
        self.refused = 0
        self.dimensions_left_out = 0
        self._emitter = emitter
        self._source = source
        # Reentrant: a signal handler may assign in the middle of an assignment.
        self._lock = threading.RLock()

    def log(
        self, found: Assignment, attributes: Mapping[str, Any], dimensions: Collection[str]
    ) -> None:
        """Raises for a wrong event what a strict emitter raises, and nothing else."""
        # The variation too: a unit that is given another one is what a report should show.
        exposure = (found.experiment, found.version, found.variation, found.unit)
        if not self.memory.is_new(exposure):
            return
        taken, left_out = False, 0
        try:
            event = exposure_of(found, attributes, dimensions, self._source)
            for name in dimensions:
                left_out += attributes.get(name) is not None and name not in event.attributes
            taken = self._emitter.emit(event)
        except InvalidEventError:
            raise
        except Exception:
            # The promise to the request path: an exposure that fails must not break it.
            if not self.refused:
                logger.exception("an exposure could not be logged; more such are only counted")
        finally:
            if not taken:
                self.memory.forget(exposure)  # so that the unit's next request tries again
            with self._lock:
                self.logged += taken
                self.refused += not taken
                self.dimensions_left_out += left_out
