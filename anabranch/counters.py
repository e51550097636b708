"""What an emitter counts. Each figure only grows, and starts at zero in a forked child."""

from __future__ import annotations

from typing import Literal, get_args

Reason = Literal[
    "queue_full",  # the emitter holds as many events as its settings allow
    "closed",  # emitted after close()
    "error",  # the emitter itself failed; its log says how
    "delivery_timeout",  # Kafka was away for too long
    "rejected",  # Kafka answered, and refused for as long as it was tried
    "too_large",  # more than Kafka takes in one batch
    "unencodable",  # does not fit its Avro schema, such as a mapping changed after emit()
    "left_at_close",  # still undelivered when close() or the end of the process gave up
]
REASONS: tuple[Reason, ...] = get_args(Reason)


class Counters:
    """`emitted` is `delivered`, what was dropped after it was taken, and what is on its way."""

    emitted: int
    """Events taken into the queue: `emit` returned True."""
    delivered: int
    """Events that Kafka acknowledged (acks=all)."""
    dropped: dict[Reason, int]
    """Good events that will never arrive, by reason."""
    flushes: int
    """Record batches that Kafka acknowledged."""
    flush_failures: int
    """Failed attempts: to reach Kafka or the registry, or to have a batch stored."""
    invalid: dict[str, int]
    """Events refused for what they say, by type; "unknown" where it is no event at all."""

    def __init__(self) -> None:
        self.emitted = 0
        self.delivered = 0
        self.dropped = dict.fromkeys(REASONS, 0)
        self.flushes = 0
        self.flush_failures = 0
        self.invalid = {}
