"""`Emitter` for asyncio and `SyncEmitter` for threads: two faces of one delivery.

Both deliver from a thread of their own, so a busy request loop does not stall delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from anabranch import process
from anabranch.counters import Counters
from anabranch.environment import sdk_settings
from anabranch.errors import EmitterSettingsError
from anabranch.fields import Event
from anabranch.registry import RegistryError
from anabranch.settings import EmitterSettings, KafkaSettings, RegistrySettings

if TYPE_CHECKING:
    from anabranch.delivery import Delivery

# What a child inherits of its parent's delivery must never be collected: closing its event loop
# would take the parent's sockets out of the kernel's poll set, which the two share.
_inherited: list[Delivery] = []


class _Face:
    def __init__(
        self,
        kafka: KafkaSettings | None = None,
        registry: RegistrySettings | None = None,
        settings: EmitterSettings | None = None,
    ) -> None:
        """Does not wait for Kafka. Raises EmitterSettingsError for what could never work."""
        self.settings = settings or EmitterSettings()
        self.close_timeout = self.settings.close_timeout_seconds
        self._kafka = kafka or KafkaSettings()
        self._registry = registry or RegistrySettings()
        self._delivery: Delivery | None = None
        self._counters = Counters()  # of one that is disabled
        self._offer: Callable[[Event], bool] = _refuse
        if self.settings.enabled:
            self._begin()
            process.take_in(self, on_sigterm=self.settings.flush_on_sigterm)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """With ANABRANCH_KAFKA__..., ANABRANCH_REGISTRY__... and ANABRANCH_EMITTER__... ."""
        return cls(*sdk_settings(environment))

    @property
    def counters(self) -> Counters:
        return self._delivery.intake.counters if self._delivery else self._counters

    @property
    def queued(self) -> int:
        """Events taken and not yet stored by Kafka."""
        return self._delivery.intake.undelivered if self._delivery else 0

    def emit(self, event: Event) -> bool:
        """Take the event for delivery. False: it was not taken, and `counters` say why.

        Never blocks and never raises, except for a wrong event in strict mode. The event's
        mappings and lists must not be changed afterwards.
        """
        return self._offer(event)

    def _begin(self) -> None:
        # Here and not above: it imports aiokafka, which who emits nothing need not load.
        from anabranch.delivery import Delivery
        from anabranch.kafka import check_codec

        try:
            check_codec(self.settings.compression)
            self._delivery = Delivery(self._kafka, self._registry, self.settings)
        except RegistryError as error:
            raise EmitterSettingsError(str(error)) from error
        self._offer = self._delivery.intake.offer

    def _flush(self, timeout: float | None) -> int:
        limit = self.close_timeout if timeout is None else timeout
        return self._delivery.flush(limit) if self._delivery else 0

    def _close(self, timeout: float | None) -> int:
        process.let_go(self)
        limit = self.close_timeout if timeout is None else timeout
        return self._delivery.close(limit) if self._delivery else 0

    def flush_now(self, timeout: float) -> None:
        """At SIGTERM."""
        self._flush(timeout)

    def end_now(self) -> None:
        """At the end of the process."""
        self._close(None)

    def begin_again(self) -> None:
        """In a forked child: its own thread, and an empty queue, for the parent sends its own."""
        if self._delivery is not None:
            _inherited.append(self._delivery)
            closed = self._delivery.intake.closed
            self._begin()
            self._delivery.intake.closed = closed


class SyncEmitter(_Face):
    """For threads. `with SyncEmitter(...) as emitter:` closes it at the end."""

    def flush(self, timeout: float | None = None) -> int:
        """Wait until what was emitted before is delivered. Returns what is still undelivered.

        In seconds; the close timeout of the settings when absent.
        """
        return self._flush(timeout)

    def close(self, timeout: float | None = None) -> int:
        """Deliver within the time, then stop. Returns how many were left, counted as dropped."""
        return self._close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Emitter(_Face):
    """For asyncio. `async with Emitter(...) as emitter:` closes it at the end."""

    async def flush(self, timeout: float | None = None) -> int:
        """Wait until what was emitted before is delivered. Returns what is still undelivered.

        In seconds; the close timeout of the settings when absent.
        """
        return await asyncio.to_thread(self._flush, timeout) if self.queued else 0

    async def close(self, timeout: float | None = None) -> int:
        """Deliver within the time, then stop. Returns how many were left, counted as dropped."""
        return await asyncio.to_thread(self._close, timeout) if self._delivery else 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _refuse(event: Event) -> bool:
    return False
