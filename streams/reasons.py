"""Why an event can never be used: the label of a metric, a header of its dead letter."""

from __future__ import annotations

from enum import StrEnum


class BadEventReason(StrEnum):
    EMPTY = "empty"
    """No value at all: a tombstone, which means nothing in a topic of events."""
    BAD_MAGIC = "bad_magic"
    """The first byte is not the zero that a schema id follows."""
    TRUNCATED = "truncated"
    """The bytes end before the event does."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """The registry has no schema of this id."""
    WRONG_SCHEMA = "wrong_schema"
    """The id is of another record, or of one that the topic's schema cannot be read from."""
    UNDECODABLE = "undecodable"
    """The bytes do not follow the schema that they name."""
    INVALID = "invalid"
    """A field breaks its meaning: out of range, too long, of a strange form."""
    TIME_OUT_OF_RANGE = "time_out_of_range"
    """The event happened long before Kafka got it, or after."""
    REFUSED_BY_STORE = "refused_by_store"
    """The table cannot hold the row."""
    REPLY_NOT_ALLOWED = "reply_not_allowed"
    """A request wants its answers in a topic that the settings do not allow, or Kafka has not."""
