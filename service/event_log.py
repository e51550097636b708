"""Writes events to Kafka: what is reported stored is on all replicas in sync.

Requests that run side by side share batches (service/event_lanes.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from anabranch.encoding import partition_of
from service.event_lanes import Lane, Parcel
from service.kafka_link import KafkaLink
from service.metrics import ServiceMetrics


class Record(NamedTuple):
    topic: str
    key: bytes
    value: bytes


class NotStoredError(Exception):
    """Kafka did not take all of the records; some of them may be stored."""


class OverloadError(Exception):
    """There is no room for the records; none of them was taken."""


class EventLog:
    def __init__(self, link: KafkaLink, metrics: ServiceMetrics, *, max_in_flight: int) -> None:
        self._link = link
        self._metrics = metrics
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._lanes: dict[tuple[str, int], Lane] = {}

    async def store(self, records: Sequence[Record], *, timeout: float) -> None:
        """Returns once Kafka has every record on all replicas in sync, else raises."""
        if not records:
            return
        if self._in_flight + len(records) > self._max_in_flight:
            raise OverloadError(
                f"{self._in_flight:,} events wait for Kafka, of {self._max_in_flight:,} that may"
            )
        sent = [(self._lane(place), parcel) for place, parcel in self._parcels(records)]
        for lane, parcel in sent:
            lane.add(parcel)
        self._count(len(records))
        try:
            done, late = await asyncio.wait([p.stored for _, p in sent], timeout=timeout)
        finally:
            for lane, parcel in sent:
                if not parcel.stored.done():
                    lane.withdraw(parcel)
        if late:
            reason = self._link.problem or "it did not answer"
            raise NotStoredError(f"Kafka did not store the events in {timeout:g} s: {reason}")
        for problem in (finished.result() for finished in done):
            if problem is not None:
                raise NotStoredError(problem)

    async def stop(self) -> None:
        """After the last request: what is still on its way has nobody who waits for it."""
        for lane in self._lanes.values():
            with contextlib.suppress(asyncio.CancelledError):
                await lane.stop()

    def _parcels(self, records: Sequence[Record]) -> list[tuple[tuple[str, int], Parcel]]:
        partitions = self._link.partitions
        grouped: defaultdict[tuple[str, int], list[tuple[bytes, bytes]]] = defaultdict(list)
        for topic, key, value in records:
            count = partitions.get(topic)
            if not count:
                raise NotStoredError(self._link.problem or f"Kafka has no topic {topic} yet")
            grouped[topic, partition_of(key, count)].append((key, value))
        return [(place, Parcel(found)) for place, found in grouped.items()]

    def _lane(self, place: tuple[str, int]) -> Lane:
        lane = self._lanes.get(place)
        if lane is None:
            lane = Lane(*place, self._link, self._metrics, leave=lambda n: self._count(-n))
            self._lanes[place] = lane
        return lane

    def _count(self, change: int) -> None:
        self._in_flight += change
        self._metrics.events_in_flight.set(self._in_flight)
