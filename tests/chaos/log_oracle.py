"""What has to be in ClickHouse, read from Kafka by a client that shares nothing with the engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from tests.chaos.events import ABORTED, POISON

_AT_ONCE = 2_000
# Magic, schema id; then the first field of every event, its id: a length and 32 characters.
_EVENT_ID = slice(6, 38)


class Place(NamedTuple):
    topic: str
    partition: int


@dataclass(slots=True)
class Slice:
    """What came of one partition since the last look."""

    good: dict[int, str] = field(default_factory=dict)
    """Event ids by offset."""
    dead: dict[int, str] = field(default_factory=dict)
    """Reasons by offset."""
    aborted: int = 0

    @property
    def offsets(self) -> Iterable[int]:
        return (*self.good, *self.dead)


@dataclass(slots=True)
class Total:
    """What came of one partition so far."""

    good: int = 0
    dead: int = 0
    offsets: int = 0
    """The sum of the offsets of good events: with their count, cheap to compare."""
    last: int = -1


class LogOracle:
    def __init__(self, bootstrap: str, topics: Iterable[str], partitions: int) -> None:
        self._next = {Place(topic, p): 0 for topic in topics for p in range(partitions)}
        self.totals: dict[Place, Total] = defaultdict(Total)
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "oracle",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                "error_cb": lambda _: None,
            }
        )

    def close(self) -> None:
        self._consumer.close()

    def read_on(self) -> dict[Place, Slice]:
        """To the end of every partition; nobody may write meanwhile."""
        slices = {place: Slice() for place in self._next}
        # Assigned anew, since the end of a partition is told once.
        self._consumer.assign([TopicPartition(*place, at) for place, at in self._next.items()])
        unfinished = set(slices)
        while unfinished:
            for message in self._consumer.consume(_AT_ONCE, 1.0):
                error = message.error()
                place = Place(message.topic() or "", message.partition() or 0)
                if error is None:
                    self._note(slices[place], message)
                    self._next[place] = (message.offset() or 0) + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    unfinished.discard(place)
        self._consumer.unassign()
        for place, found in slices.items():
            total = self.totals[place]
            total.good += len(found.good)
            total.dead += len(found.dead)
            total.offsets += sum(found.good)
            total.last = self._next[place] - 1
        return slices

    def _note(self, slice_: Slice, message: Message) -> None:
        offset, key, value = message.offset() or 0, message.key(), message.value()
        if key is not None and key.startswith(POISON):
            slice_.dead[offset] = key.split(b":")[1].decode()
        elif key is not None and key.startswith(ABORTED):
            slice_.aborted += 1
        else:
            assert value is not None
            slice_.good[offset] = value[_EVENT_ID].decode()
