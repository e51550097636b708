"""confluent-kafka and fastavro: `consume` in batches, inserts by threads, then the commit."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from bench.engine.peers.job import ROWS, UNDER_WAY, Job, Store, decoder, reading, stored

Places = list[TopicPartition]


def main() -> None:
    job, decode = Job.told(), decoder()
    store = Store(job)
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "max.partition.fetch.bytes": 4 << 20,
        }
    )
    consumer.subscribe([job.topic], on_assign=lambda *_: reading())
    under_way: deque[tuple[Future[None], Places]] = deque()

    def settle_oldest() -> None:
        inserted, places = under_way.popleft()
        inserted.result()
        consumer.commit(offsets=places, asynchronous=True)

    gathered, ends, left = store.empty(), dict[int, int](), job.events
    with ThreadPoolExecutor(UNDER_WAY) as threads:
        while left > 0:
            messages: list[Any] = consumer.consume(2_000, timeout=0.2)
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
            partitions = [message.partition() for message in messages]
            offsets = [message.offset() for message in messages]
            gathered.add([decode(message.value()) for message in messages], partitions, offsets)
            # Of a partition the last one stays: offsets rise.
            ends |= zip(partitions, (offset + 1 for offset in offsets), strict=True)
            left -= len(messages)
            if gathered.events >= ROWS or left <= 0:
                if len(under_way) == UNDER_WAY:
                    settle_oldest()
                places = [TopicPartition(job.topic, *place) for place in ends.items()]
                under_way.append((threads.submit(store.insert, gathered), places))
                gathered, ends = store.empty(), {}
        while under_way:
            settle_oldest()
    stored()


if __name__ == "__main__":
    main()
