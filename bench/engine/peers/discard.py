"""aiokafka, reading and discarding: the ceiling of whoever takes records one by one."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer

from bench.engine.peers.aiokafka_fastavro import Assigned
from bench.engine.peers.job import Job, stored


async def main() -> None:
    job = Job.told()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=4 << 20,
    )
    consumer.subscribe([job.topic], listener=Assigned())
    await consumer.start()
    left = job.events
    while left > 0:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            left -= len(records)
    stored()


if __name__ == "__main__":
    asyncio.run(main())
