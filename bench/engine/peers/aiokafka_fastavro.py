"""aiokafka and fastavro: `getmany`, and inserts on their way while the next batch is decoded."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from bench.engine.peers.job import ROWS, UNDER_WAY, Job, Store, decoder, reading, stored

Ends = dict[TopicPartition, int]


class Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        pass

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        reading()


async def started_consumer(job: Job) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )
    consumer.subscribe([job.topic], listener=Assigned())
    await consumer.start()
    return consumer


async def main() -> None:
    job, decode = Job.told(), decoder()
    store = Store(job)
    consumer = await started_consumer(job)
    under_way: deque[tuple[asyncio.Task[None], Ends]] = deque()

    async def settle_oldest() -> None:
        inserted, ends = under_way.popleft()
        await inserted
        await consumer.commit(ends)

    gathered, ends, left = store.empty(), Ends(), job.events
    while left > 0:
        found = await consumer.getmany(timeout_ms=200, max_records=2_000)
        for partition, records in found.items():
            gathered.add(
                [decode(record.value) for record in records],
                [partition.partition] * len(records),
                [record.offset for record in records],
            )
            ends[partition] = records[-1].offset + 1
            left -= len(records)
        if gathered.events >= ROWS or left <= 0:
            if len(under_way) == UNDER_WAY:
                await settle_oldest()
            insert = asyncio.to_thread(store.insert, gathered)
            under_way.append((asyncio.create_task(insert), ends))
            gathered, ends = store.empty(), {}
    while under_way:
        await settle_oldest()
    stored()


if __name__ == "__main__":
    asyncio.run(main())
