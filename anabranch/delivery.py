"""Delivery: one daemon thread with an event loop of its own, from the queue to Kafka.

A producer that can no longer be trusted is given up together with its loop, and a new one goes on
from the records that Kafka has not acknowledged. Where Kafka had stored a batch and its
acknowledgement was lost with the producer, the batch arrives twice: the event_id tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

from anabranch.fields import Event
from anabranch.intake import Intake
from anabranch.kafka import KafkaError, Loop, Producer, end, open_producer
from anabranch.lanes import GivenUpError, Lane
from anabranch.registry import Registry
from anabranch.routes import Route
from anabranch.settings import EmitterSettings, KafkaSettings, RegistrySettings

logger = logging.getLogger(__name__)

_CHUNK = 500
_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
_STOP_SECONDS = 1.0
_LOG_EVERY_SECONDS = 30.0


class _StoppedError(Exception):
    """Ends the tasks of a connection at close."""


class Delivery:
    """Callers use `intake`, `flush` and `close`. All else belongs to the thread."""

    def __init__(
        self, kafka: KafkaSettings, registry: RegistrySettings, settings: EmitterSettings
    ) -> None:
        self.intake = Intake(settings.capacity, strict=settings.strict, wake=self._wake)
        self._kafka = kafka
        self._settings = settings
        self._registry = Registry(registry)
        self._routes: dict[type[Event], Route] = {}
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = self._stopped = asyncio.Event()  # made anew with each loop
        self._stopping = False
        self._progress = threading.Condition()
        self._settled_until = 0.0
        self._failures = 0
        self._logged_at = -_LOG_EVERY_SECONDS

    def flush(self, timeout: float) -> int:
        """Wait for what was taken before this call. Returns the number still undelivered."""
        asked = time.monotonic()
        with self._progress:
            while self.intake.undelivered and self._settled_until <= asked:
                left = asked + timeout - time.monotonic()
                if left <= 0:
                    break
                self._rouse()
                self._progress.wait(min(left, 0.2))
        return self.intake.undelivered

    def close(self, timeout: float) -> int:
        """Deliver what can be within the time, stop, and count the rest as dropped: that number."""
        self.intake.closed = True
        self.flush(timeout)
        self._stopping = True
        if self._thread is not None:
            self._rouse()
            self._thread.join(2 * _STOP_SECONDS)
        left = self.intake.undelivered
        if left:
            self.intake.drop("left_at_close", left)
        return left

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="anabranch", daemon=True)
            thread.start()
            self._thread = thread
        else:
            self._rouse()

    def _rouse(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # between two loops: the next one looks itself
                self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._woken.set()
        if self._stopping:
            self._stopped.set()

    def _run(self) -> None:
        while not self._stopping:
            with asyncio.Runner(loop_factory=Loop) as runner:
                self._woken, self._stopped = asyncio.Event(), asyncio.Event()
                self._loop = runner.get_loop()
                try:
                    runner.run(self._connection())
                except Exception:
                    # The top of this thread: what nobody foresaw costs a producer, not delivery.
                    logger.exception("delivery to Kafka failed; starting again")
                    self._failures += 1

    async def _connection(self) -> None:
        """One producer, from its start until it is given up."""
        self._expire()
        if self._failures:
            wait = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS)) - 1]
            await _wait(self._stopped, wait)
        if self._stopping:
            return
        producer = open_producer(self._kafka, self._settings)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._deliver(producer, tasks))
                await self._stopped.wait()
                raise _StoppedError  # noqa: TRY301  the way to end a group's tasks
        except* _StoppedError:
            pass
        except* (GivenUpError, KafkaError, OSError) as errors:
            self._failed(errors.exceptions[0])
        finally:
            await end(producer, _STOP_SECONDS)

    async def _deliver(self, producer: Producer, tasks: asyncio.TaskGroup) -> None:
        async with asyncio.timeout(2 * self._settings.request_timeout_seconds):
            await producer.start()

        def start(route: Route, lane: Lane) -> None:
            if lane.records and not lane.sending:
                lane.sending = True
                tasks.create_task(lane.send_all(producer, route.is_due, self._progressed))

        for route in self._routes.values():
            route.renew()
        while True:
            for route in self._routes.values():
                if route.waiting and not route.busy:
                    route.busy = True
                    tasks.create_task(route.encode_all(producer, start))
            await self._collect()

    async def _collect(self) -> None:
        """Wait for events, let them gather, and hand them to their routes."""
        if self.intake.sleep():
            await self._woken.wait()
        self._woken.clear()
        if not self.intake.crowded:
            # flush and close cut it short
            await _wait(self._woken, self._settings.linger_ms / 1000)
        self._take(_CHUNK)
        await asyncio.sleep(0)

    def _take(self, most: int) -> None:
        for taken in self.intake.take(most):
            kind = type(taken.event)
            route = self._routes.get(kind)
            if route is None:
                route = Route(kind, self.intake, self._registry, self._settings)
                self._routes[kind] = route
            route.events.append(taken)

    def _expire(self) -> None:
        """Between two producers: what waited for too long is dropped, wherever it waits."""
        self._take(self._settings.capacity)
        now = time.monotonic()
        for route in self._routes.values():
            route.renew()
            route.expire(now)
        self._publish()

    def _progressed(self) -> None:
        if self._failures:
            self._failures = 0
            logger.info("delivery to Kafka goes on")
        self._publish()

    def _publish(self) -> None:
        """Tell those in `flush` how far delivery is."""
        now = time.monotonic()  # before the look: what is taken after it is later than this
        oldest = [at for route in self._routes.values() for at in route.oldest()]
        first = self.intake.oldest()
        with self._progress:
            self._settled_until = min([now, *oldest] if first is None else [now, first, *oldest])
            self._progress.notify_all()

    def _failed(self, error: BaseException) -> None:
        self.intake.failed()
        self._failures += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_SECONDS:
            self._logged_at = now
            logger.warning(
                "cannot deliver to Kafka at %s: %s %s; %d events wait, trying again",
                *(self._kafka.bootstrap, type(error).__name__, error, self.intake.undelivered),
            )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    # Not wait_for: before 3.12 it swallows a cancellation that comes together with the event.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
