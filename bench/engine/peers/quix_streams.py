"""Quix Streams with a batching sink: it is handed the records of a checkpoint, by partition."""

from __future__ import annotations

from quixstreams import Application  # type: ignore[import-not-found]
from quixstreams.sinks import BatchingSink, SinkBatch  # type: ignore[import-not-found]

from bench.engine.peers.job import ROWS, Job, Row, Store, decoder, reading, stored


class ClickHouseSink(BatchingSink):  # type: ignore[misc]
    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._left = job.events

    def setup(self) -> None:
        self._store = Store(self._job)

    def write(self, batch: SinkBatch) -> None:
        gathered = self._store.empty()
        for items in batch.iter_chunks(2_000):
            gathered.add(
                [item.value for item in items],
                [batch.partition] * len(items),
                [item.offset for item in items],
            )
        self._store.insert(gathered)
        self._left -= batch.size

    def flush(self) -> None:
        super().flush()
        if self._left <= 0:
            stored()


def checkpoint(events: int) -> int:
    """About two inserts' rows, spread over four partitions, and a divisor: nothing is left over."""
    parts = -(-events // (2 * ROWS))
    while events % parts:
        parts += 1
    return events // parts


def main() -> None:
    job, decode = Job.told(), decoder()
    application = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        commit_every=checkpoint(job.events),
        commit_interval=3_600,
        consumer_extra_config={"max.partition.fetch.bytes": 4 << 20},
        loglevel="WARNING",
    )
    topic = application.topic(job.topic, key_deserializer="bytes", value_deserializer="bytes")
    unseen = True

    def decoded(value: bytes) -> Row:
        nonlocal unseen
        if unseen:
            # Nothing of its own says when the partitions are there.
            unseen = False
            reading()
        return decode(value)

    application.dataframe(topic).apply(decoded).sink(ClickHouseSink(job))
    application.run()


if __name__ == "__main__":
    main()
