"""Stock Faust: an agent that takes batches by `noack_take` and acknowledges what is stored.

Its documentation recommends `take` for work on many events at once; `take` acknowledges a batch
whose insert failed, `noack_take` does the same at the same speed without that.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import faust

from bench.engine.peers.job import Job, Store, decoder, reading, stored

TAKE = 10_000


def build(job: Job) -> faust.App:
    app = faust.App(
        job.group,
        broker=f"kafka://{job.bootstrap.replace(',', ';')}",
        value_serializer="raw",
        key_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        broker_max_poll_records=TAKE,
        stream_buffer_maxsize=TAKE,
    )
    topic = app.topic(job.topic, key_type=bytes, value_type=bytes)
    decode, store = decoder(), Store(job)

    @app.on_partitions_assigned.connect
    async def assigned(*_: Any, **__: Any) -> None:
        reading()

    @app.agent(topic)
    async def turns(stream: Any) -> None:
        left = job.events
        async for events in stream.noack_take(TAKE, within=1.0):
            messages = [event.message for event in events]
            gathered = store.empty()
            gathered.add(
                [decode(event.value) for event in events],
                [message.partition for message in messages],
                [message.offset for message in messages],
            )
            await asyncio.to_thread(store.insert, gathered)  # an executor: the loop lives on
            for event in events:
                event.ack()
            left -= len(events)
            if left <= 0:
                stored()

    return app


def main() -> None:
    sys.argv[1:] = ["worker", "--loglevel", "warn", "--without-web"]
    build(Job.told()).main()


if __name__ == "__main__":
    main()
