"""Where no Java can run: the broker that librdkafka has for its own tests."""

from __future__ import annotations

import signal
import sys
import threading

from deploy.kafka import LISTENS_ON
from schemas.topics import CATALOGUE
from service.errors import CommandError

LIMITS = """\
This is not Kafka but the test broker of librdkafka, in memory. It takes produce, fetch, consumer
groups and offset commits. Its limits:
  - every record is gone when it ends, and it is not started again when it dies
  - a partition keeps its last 5 MB; older records are dropped
  - no compaction, no retention, no access control, no settings of a topic
  - topics cannot be made or changed, groups not listed; it makes a topic (4 partitions) when a
    client names it
  - it takes a free port of its own choice on 127.0.0.1
Use it to look around, never for data that matters."""


def run_memory_broker() -> None:
    try:
        from confluent_kafka import Producer
    except ImportError as error:
        raise CommandError(
            "the in-memory broker needs the package confluent-kafka, which cannot be loaded: "
            f"{error}"
        ) from error
    # The client is never spoken through: it holds the broker, and its metadata knows the address.
    client = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1})
    for topic in CATALOGUE:
        client.list_topics(topic.name, timeout=10)  # which makes it
    (broker,) = client.list_topics(timeout=10).brokers.values()
    sys.stdout.write(f"{LIMITS}\n{LISTENS_ON}{broker.host}:{broker.port}\n")
    sys.stdout.flush()
    wait_for_the_end()


def wait_for_the_end() -> None:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    told.wait()
