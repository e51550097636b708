"""Every topic, named once: what it carries, by which key, and how Kafka keeps it."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, NamedTuple

FOR_GOOD = None

# A record batch, not a record, has to fit. Stated although it is Kafka's default, so that a
# cluster with another default cannot refuse what the emitter packs.
BATCH_BYTES = 1_048_588
# Above any batch of the source, so that a dead letter with its headers always fits.
LARGE_BATCH_BYTES = 4 * BATCH_BYTES


class TopicSpec(NamedTuple):
    name: str
    schema: str
    """The file in `schemas/`."""
    key: str
    """The field whose value is the Kafka key, which decides the partition."""
    description: str
    retention: timedelta | None
    """How long Kafka keeps a record after it came; None is for good."""
    partitions: Literal["setting"] | int = "setting"
    """The count of a new topic: the setting `topics.partitions`, or a fixed one."""
    compacted: bool = False
    """Only the newest record of each key is kept for good."""
    max_batch_bytes: int = BATCH_BYTES
    dead_letters: str | None = None
    """Where records go that can never succeed: original bytes, the reason in headers."""
    emitted: bool = False
    """Services emit it, by the SDK or `POST /v1/events`."""

    @property
    def subject(self) -> str:
        """The name of its schema in the registry."""
        return f"{self.name}-value"

    def config(self, replication: int) -> dict[str, str]:
        """What Kafka is told, and held to, for a topic with this many replicas."""
        config = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "compression.type": "producer",
            "max.message.bytes": str(self.max_batch_bytes),
            # The broker's clock: validation and freshness count on it, `ts` has the sender's.
            "message.timestamp.type": "LogAppendTime",
            # With three replicas one may be away; with acks=all a write is then on two disks.
            "min.insync.replicas": "2" if replication >= 3 else "1",
            "retention.ms": str(_milliseconds(self.retention)),
        }
        if self.compacted:
            # Nobody writes a tombstone (a deletion is a record with its status). Should one
            # appear, a reader that was away for a month still sees it.
            config["delete.retention.ms"] = str(_milliseconds(timedelta(days=30)))
            # For that long the topic is its own history, and a record that lost has time to be
            # followed by a copy of the winner (docs/adr/0004).
            config["min.compaction.lag.ms"] = str(_milliseconds(timedelta(days=400)))
        return config


def _milliseconds(duration: timedelta | None) -> int:
    return -1 if duration is None else duration // timedelta(milliseconds=1)


EXPOSURES = TopicSpec(
    name="exposures.v1",
    schema="exposure.avsc",
    key="unit",
    description="A unit met a variation.",
    retention=timedelta(days=14),
    dead_letters="exposures.v1.dead",
    emitted=True,
)
TURN_METRICS = TopicSpec(
    name="turn-metrics.v1",
    schema="turn_metric.avsc",
    key="session",
    description="What a turn of a session cost and did.",
    retention=timedelta(days=14),
    dead_letters="turn-metrics.v1.dead",
    emitted=True,
)
INVITES = TopicSpec(
    name="invites.v1",
    schema="invite.avsc",
    key="inviter",
    description="The steps of invitations.",
    retention=timedelta(days=14),
    dead_letters="invites.v1.dead",
    emitted=True,
)
OUTCOMES = TopicSpec(
    name="outcomes.v1",
    schema="outcome.avsc",
    key="unit",
    description="What services measured of a unit.",
    retention=timedelta(days=14),
    dead_letters="outcomes.v1.dead",
    emitted=True,
)
ASSIGNMENT_REQUESTS = TopicSpec(
    name="assignment-requests.v1",
    schema="assignment_request.avsc",
    key="unit",
    description="Units that ask for their variations over Kafka.",
    retention=timedelta(days=1),  # nobody waits longer for an answer
    dead_letters="assignment-requests.v1.dead",
)
ASSIGNMENTS = TopicSpec(
    name="assignments.v1",
    schema="assignment.avsc",
    key="unit",
    description="The answers to assignment requests.",
    retention=timedelta(days=7),
    dead_letters="assignments.v1.dead",
)
EXPERIMENTS = TopicSpec(
    name="experiments.v1",
    schema="experiment.avsc",
    key="key",
    description="The definition log: the only truth about experiments.",
    retention=FOR_GOOD,
    partitions=1,  # one order over all experiments
    compacted=True,
    max_batch_bytes=LARGE_BATCH_BYTES,
    dead_letters="experiments.v1.dead",
)
AUDIT = TopicSpec(
    name="audit.v1",
    schema="audit.avsc",
    key="actor",
    description="Who did what to what, before and after.",
    retention=FOR_GOOD,
    partitions=1,  # one order over all actors
    max_batch_bytes=LARGE_BATCH_BYTES,
    dead_letters="audit.v1.dead",
)

TOPICS = (
    EXPOSURES,
    TURN_METRICS,
    INVITES,
    OUTCOMES,
    ASSIGNMENT_REQUESTS,
    ASSIGNMENTS,
    EXPERIMENTS,
    AUDIT,
)


def _dead_letter_topic(source: TopicSpec) -> TopicSpec:
    """The same records, so the same schema, key and number of partitions; kept for longer."""
    assert source.dead_letters is not None
    return source._replace(
        name=source.dead_letters,
        description=f"Records of {source.name} that could not be used; the reason is in headers.",
        retention=timedelta(days=90),
        compacted=False,
        max_batch_bytes=2 * source.max_batch_bytes,
        dead_letters=None,
        emitted=False,
    )


DEAD_LETTER_TOPICS = tuple(_dead_letter_topic(topic) for topic in TOPICS)

CATALOGUE = (*TOPICS, *DEAD_LETTER_TOPICS)
