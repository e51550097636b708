"""A batch formed again after a crash says of itself what it said the first time."""

from __future__ import annotations

import time
from pathlib import Path

from confluent_kafka import Producer

from anabranch import Outcome
from anabranch.encoding import Encoder
from tests.chaos.events import schema_ids
from tests.chaos.house import ChaosWorker, opened
from tests.live.worker_fixture import wait_until

_HOUR_MS = 3_600_000


def test_batch_does_not_make_its_own_events_late_when_it_is_formed_again(tmp_path: Path) -> None:
    with opened(tmp_path / "house", workers=0, partitions=1) as house:
        now_ms = int(time.time() * 1000)
        encoder = Encoder(Outcome, schema_ids(house.service.url)[Outcome.TOPIC])
        producer = Producer({"bootstrap.servers": house.kafka.bootstrap, "linger.ms": 500})
        for ts in (now_ms, now_ms - _HOUR_MS):
            event = Outcome(ts=ts, unit="u1", values={"cost": 1.0})
            key, value = encoder.encode(event)
            producer.produce(Outcome.TOPIC, key=key, value=value)
        producer.flush()

        crashing = ChaosWorker(house, "worker")
        crashing.crash_at("after_batches", 1)
        crashing.start()
        wait_until(lambda: not crashing.runs)
        crashing.forget()

        crashing.start()
        name = "anabranch_worker_reformed_batches_total"
        wait_until(lambda: crashing.metric(name) == 1)
        wait_until(lambda: crashing.metric("anabranch_worker_records_total") == 2)
        assert crashing.stop() == 0
        assert house.asked("SELECT count(), uniqExact(_offset) FROM outcomes") == [[2, 2]]
        assert house.asked("SELECT window, events FROM restatements") == []
