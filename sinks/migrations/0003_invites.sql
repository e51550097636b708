-- One row for every step of an invitation, read by growth loop, then inviter.
CREATE TABLE IF NOT EXISTS ${database}.invites${local}${on_cluster}
(
    event_id String COMMENT 'Identifies the event for good; an event sent twice has it twice' CODEC(ZSTD(1)),
    ts DateTime64(3, 'UTC') COMMENT 'Event time, UTC, in ms' CODEC(Delta, ZSTD(1)),
    kind LowCardinality(String) COMMENT 'The step: sent, joined, or fvm (the first valuable moment of the invitee)' CODEC(ZSTD(1)),
    invite_id String COMMENT 'Identifies the invitation; the same in each of its steps' CODEC(ZSTD(1)),
    loop LowCardinality(String) COMMENT 'Name of the growth loop' CODEC(ZSTD(1)),
    inviter String COMMENT 'Who invited, as a pseudonym' CODEC(ZSTD(1)),
    invitee Nullable(String) COMMENT 'Who was invited, as a pseudonym; null until they joined' CODEC(ZSTD(1)),
    smart_link_code String COMMENT 'Code of the link that carried it; empty when there was none' CODEC(ZSTD(1)),
    locale LowCardinality(String) COMMENT 'Language of the inviter as a BCP 47 tag; empty when unknown' CODEC(ZSTD(1)),
    exposures Array(Tuple(experiment LowCardinality(String), version Int32, variation LowCardinality(String), unit String)) COMMENT 'The experiments that the inviter was in' CODEC(ZSTD(1)),
    _topic LowCardinality(String) COMMENT 'Kafka topic that the event came from' CODEC(ZSTD(1)),
    _partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    _offset Int64 COMMENT 'Offset in that partition' CODEC(Delta, ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the row was stored, UTC, in ms' CODEC(Delta, ZSTD(1)),
    INDEX times ts TYPE minmax GRANULARITY 1,
    INDEX invitees invitee TYPE bloom_filter GRANULARITY 1,
    INDEX offsets _offset TYPE minmax GRANULARITY 1
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(ts)
ORDER BY (loop, inviter, ts)
TTL toDateTime(ts) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Invitations, step by step. A month is dropped whole once its last event is 400 days old';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.invites${on_cluster} AS ${database}.invites_local
ENGINE = Distributed(${cluster}, ${database}, invites_local, cityHash64(inviter))
COMMENT 'Invitations on all shards, sharded by inviter';
