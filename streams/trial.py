"""What would become of records if their topic got them now, by the worker's own decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from anabranch.events import RECORD_TYPES
from streams.columns import Columns
from streams.forming import PLANS, Former
from streams.ledger import Range
from streams.record_batches import split

_LARGEST_BATCH = 1 << 30


class Trial:
    def __init__(self, writer_schema: Callable[[int], str]) -> None:
        """`writer_schema` asks the registry for the schema of an id."""
        kinds = {kind.TOPIC: kind for kind in RECORD_TYPES}
        self._formers = {
            plan.spec.name: Former(plan, kinds[plan.spec.name], Columns(plan.spec, writer_schema))
            for plan in PLANS
        }

    def problems(
        self, topic: str, records: Sequence[tuple[bytes | None, bytes | None]], now_ms: int
    ) -> list[str | None]:
        """Of each key and value: why it would die, or None. What ClickHouse would say of the row is
        not known. Raises RegistryUnavailableError."""
        former = self._formers.get(topic)
        if former is None:
            return [f"no worker reads {topic}"] * len(records)
        builder: Any = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=-1,
            producer_epoch=-1,
            base_sequence=-1,
            batch_size=_LARGEST_BATCH,
        )
        for number, (key, value) in enumerate(records):
            builder.append(number, timestamp=now_ms, key=key, value=value, headers=[])
        last = len(records) - 1
        decoded = former.decode(
            list(split(bytes(builder.build()), 0)), Range("trial", 0, last), last
        )
        died = {record.offset: f"{record.reason}: {record.detail}" for record in decoded.dead}
        return [died.get(number) for number in range(len(records))]
