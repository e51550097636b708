"""bytewax: batches of the Kafka source through one step, into a sink that gathers for an insert."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found]
from bytewax.connectors.kafka import KafkaSource  # type: ignore[import-not-found]
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]
from bytewax.outputs import (  # type: ignore[import-not-found]
    DynamicSink,
    StatelessSinkPartition,
)
from bytewax.run import cli_main  # type: ignore[import-not-found]

from bench.engine.peers.job import ROWS, Job, Row, Store, decoder, reading, stored

Place = tuple[Row, int, int]


class Source(KafkaSource):  # type: ignore[misc]
    def build_part(self, *arguments: Any) -> Any:
        reading()
        return super().build_part(*arguments)


class ClickHouse(StatelessSinkPartition):  # type: ignore[misc]
    def __init__(self, job: Job) -> None:
        self._store = Store(job)
        self._gathered = self._store.empty()
        self._left = job.events

    def write_batch(self, items: list[Place]) -> None:
        rows, partitions, offsets = zip(*items, strict=True)
        self._gathered.add(rows, partitions, offsets)
        self._left -= len(items)
        if self._gathered.events >= ROWS or self._left <= 0:
            self._store.insert(self._gathered)
            self._gathered = self._store.empty()
        if self._left <= 0:
            stored()


class ClickHouseSink(DynamicSink):  # type: ignore[misc]
    def __init__(self, job: Job) -> None:
        self._job = job

    def build(self, step_id: str, worker_index: int, worker_count: int) -> ClickHouse:
        return ClickHouse(self._job)


def main() -> None:
    job, decode = Job.told(), decoder()

    def decode_batch(messages: list[Any]) -> list[Place]:
        return [(decode(found.value), found.partition, found.offset) for found in messages]

    flow = Dataflow("turns")
    messages = op.input(
        "kafka",
        flow,
        Source(
            [job.bootstrap],
            [job.topic],
            add_config={"max.partition.fetch.bytes": str(4 << 20)},
            batch_size=2_000,
        ),
    )
    rows = op.flat_map_batch("decode", messages, decode_batch)
    op.output("clickhouse", rows, ClickHouseSink(job))
    cli_main(flow, epoch_interval=timedelta(seconds=10))


if __name__ == "__main__":
    main()
