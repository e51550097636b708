"""aiokafka, reading and discarding: the ceiling of whoever takes records one by one."""

from __future__ import annotations

import asyncio

from bench.engine.peers.aiokafka_fastavro import started_consumer
from bench.engine.peers.job import Job, stored


async def main() -> None:
    job = Job.told()
    consumer = await started_consumer(job)
    left = job.events
    while left > 0:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            left -= len(records)
    stored()


if __name__ == "__main__":
    asyncio.run(main())
