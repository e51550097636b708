"""What the pipeline asks of Kafka, in its own words; `transport.py` answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from streams.record_batches import RecordBatch


class TopicPartition(NamedTuple):
    """Equal to those of aiokafka and Faust, which are the same two values."""

    topic: str
    partition: int


class Fetched(NamedTuple):
    """What one message of the transport carries."""

    batches: tuple[RecordBatch, ...]


class Bounds(NamedTuple):
    """What a partition's log holds: offsets from `start` on, below `end`."""

    start: int
    end: int


class Committed(NamedTuple):
    """-1 and nothing where there is no commit."""

    offset: int
    metadata: str


class FencedError(Exception):
    """The group has gone on without this worker: what it was about to commit is not its own."""


class KafkaLog(Protocol):
    async def commit_entries(
        self, entries: Mapping[TopicPartition, Committed], generation: int
    ) -> None:
        """Return once Kafka has them, however long that takes. FencedError: the group went on."""

    async def read_entries(
        self, places: Iterable[TopicPartition]
    ) -> tuple[dict[TopicPartition, Committed], int]:
        """And the generation of the group in which they were read. FencedError: it changed."""

    async def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]: ...

    async def first_after(self, place: TopicPartition, timestamp_ms: int) -> int | None:
        """The first offset whose record has a later timestamp; None where there is none."""

    async def seek_back(self, place: TopicPartition, offset: int) -> None:
        """Deliver from this offset on."""

    def hold_back(self, place: TopicPartition) -> None:
        """Deliver nothing of it until `let_go`."""

    def let_go(self, place: TopicPartition) -> None: ...

    def end(self, place: TopicPartition) -> int | None:
        """Where the log ended at the last fetch."""
