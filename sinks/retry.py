"""Which answers of ClickHouse are about its health, so that the same insert may succeed later."""

from __future__ import annotations

from collections.abc import Callable, Iterator

RETRIABLE_CODES = frozenset({
    3,    # UNEXPECTED_END_OF_FILE: the connection broke in the middle of the body
    33,   # CANNOT_READ_ALL_DATA: the same, seen later
    60,   # UNKNOWN_TABLE: a migration, or a rebuild, is about to put it there
    74, 75,  # CANNOT_READ_FROM / WRITE_TO_FILE_DESCRIPTOR: the disk
    76,   # CANNOT_OPEN_FILE
    81,   # UNKNOWN_DATABASE: as with the table
    99,   # UNKNOWN_PACKET_FROM_CLIENT: a proxy in between
    159,  # TIMEOUT_EXCEEDED
    160,  # TOO_SLOW
    164,  # READONLY
    173,  # CANNOT_ALLOCATE_MEMORY
    198,  # DNS_ERROR, of a shard
    201,  # QUOTA_EXCEEDED
    202,  # TOO_MANY_SIMULTANEOUS_QUERIES
    203,  # NO_FREE_CONNECTION
    209,  # SOCKET_TIMEOUT
    210,  # NETWORK_ERROR
    225,  # NO_ZOOKEEPER
    236,  # ABORTED: it is shutting down
    241,  # MEMORY_LIMIT_EXCEEDED
    242,  # TABLE_IS_READ_ONLY: Keeper is away
    243,  # NOT_ENOUGH_SPACE
    244,  # UNEXPECTED_ZOOKEEPER_ERROR
    252,  # TOO_MANY_PARTS
    254,  # REPLICA_IS_NOT_IN_QUORUM
    279,  # ALL_CONNECTION_TRIES_FAILED
    285,  # TOO_FEW_LIVE_REPLICAS
    286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    298,  # CANNOT_PIPE
    319,  # UNKNOWN_STATUS_OF_INSERT
    341,  # UNFINISHED
    394,  # QUERY_WAS_CANCELLED
    410,  # KEEPER_EXCEPTION of older releases
    425,  # SYSTEM_ERROR
    439,  # CANNOT_SCHEDULE_TASK
    473,  # DEADLOCK_AVOIDED
    499,  # S3_ERROR
    516,  # AUTHENTICATION_FAILED: a password being changed; readiness shows it
    593,  # ZERO_COPY_REPLICATION_ERROR
    598,  # FILESYSTEM_CACHE_ERROR
    689,  # NETWORK_ERROR of the server's own clients
    999,  # KEEPER_EXCEPTION
    1000, 1001, 1002,  # POCO, STD and unknown exceptions: the disk is full, a thread cannot start
})  # fmt: skip


def backoff_seconds(
    jitter: Callable[[], float], *, first: float = 0.1, longest: float = 5.0
) -> Iterator[float]:
    """How long to wait before each further attempt, without an end. `jitter` gives 0 to 1: with it
    the workers that met the same trouble do not come back at the same moment."""
    wait = first
    while True:
        yield wait * (0.5 + jitter() / 2)
        wait = min(longest, wait * 2)
