"""Sends the mixture, at a steady rate, whatever happens to the broker meanwhile."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from tests.chaos.events import ABORTED, CODECS, Mixture, Outgoing

_TICK_SECONDS = 0.05
_TRANSACTION_RECORDS = 40
_TRANSACTION_SECONDS = 8
_TRANSACTION_TIMEOUT_MS = 15_000


class Sender:
    """An idempotent producer for each codec, and one with transactions, half of which abort."""

    def __init__(self, bootstrap: str, mixture: Mixture, rate: float, seed: int) -> None:
        self._records = mixture.records()
        self._rate = rate
        self._random = random.Random(seed)  # which transactions abort
        self._lock = threading.Lock()  # held for whole transactions
        self._going = threading.Event()
        self._ended = threading.Event()
        self._bootstrap = bootstrap
        self._producers = {codec: self._producer(codec) for codec in CODECS}
        self._transactional: Producer | None = None
        self._threads = [
            threading.Thread(target=self._send, name="sender"),
            threading.Thread(target=self._send_transactions, name="transactions"),
        ]
        self.stored = 0
        """Records that the broker has acknowledged, transactions left out."""
        self.failed = 0

    def start(self) -> None:
        self._going.set()
        for thread in self._threads:
            thread.start()

    def pause(self, seconds: float = 120) -> None:
        """Return when the broker has all that was sent, and no transaction is open."""
        self._going.clear()
        deadline = time.monotonic() + seconds
        with self._lock:
            for producer in self._producers.values():
                while producer.flush(1) and time.monotonic() < deadline:
                    pass
            while not self._has_closed_transaction():
                if time.monotonic() > deadline:
                    raise RuntimeError("the harness cannot end its own transaction")

    def go_on(self) -> None:
        self._going.set()

    def stop(self) -> None:
        self._ended.set()
        self._going.set()
        for thread in self._threads:
            thread.join()

    def _producer(self, codec: str, **more: Any) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "compression.type": codec,
                "enable.idempotence": True,
                "linger.ms": 30,
                "message.max.bytes": 20_000_000,  # before compression, after which it is small
                "message.timeout.ms": 300_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
                "error_cb": lambda _: None,
                **more,
            }
        )

    def _send(self) -> None:
        begun, sent = time.monotonic(), 0
        while not self._ended.is_set():
            if not self._going.is_set():
                self._going.wait()
                begun, sent = time.monotonic(), 0
            with self._lock:
                due = (time.monotonic() - begun) * self._rate
                while sent < due and self._going.is_set():
                    self._put(next(self._records))
                    sent += 1
                for producer in self._producers.values():
                    producer.poll(0)
            time.sleep(_TICK_SECONDS)

    def _put(self, record: Outgoing) -> None:
        producer = self._producers[record.codec]
        while not self._ended.is_set():
            try:
                producer.produce(
                    record.topic,
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    on_delivery=self._delivered,
                )
            except BufferError:
                producer.poll(0.1)
            else:
                return

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is None:
            self.stored += 1
        else:
            self.failed += 1

    def _send_transactions(self) -> None:
        while not self._ended.wait(self._random.uniform(0.5, 3)):
            with self._lock:
                if self._going.is_set() and self._has_closed_transaction():
                    try:
                        self._transact()
                    except KafkaException:
                        self._transactional = None

    def _has_closed_transaction(self) -> bool:
        """A new producer of the same id ends what the one before it left open, which would hold
        every reader back until it times out."""
        if self._transactional is None:
            options = {
                "transactional.id": "chaos",
                "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS,
                "message.timeout.ms": _TRANSACTION_TIMEOUT_MS,
            }
            producer = self._producer("zstd", **options)
            with contextlib.suppress(KafkaException):
                producer.init_transactions(_TRANSACTION_SECONDS)
                self._transactional = producer
        return self._transactional is not None

    def _transact(self) -> None:
        producer = self._transactional
        assert producer is not None
        aborts = self._random.random() < 0.5
        producer.begin_transaction()
        for number in range(_TRANSACTION_RECORDS):
            record = next(self._records)
            key = ABORTED + str(number).encode() if aborts else record.key
            producer.produce(record.topic, key=key, value=record.value)
        producer.flush(_TRANSACTION_SECONDS)
        if aborts:
            producer.abort_transaction(_TRANSACTION_SECONDS)
        else:
            producer.commit_transaction(_TRANSACTION_SECONDS)
