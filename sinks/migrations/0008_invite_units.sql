-- The steps of invitations by who invited: what growth is computed from.
CREATE TABLE IF NOT EXISTS ${database}.invite_units${local}${on_cluster}
(
    day Date COMMENT 'Day of the steps, UTC, in event time' CODEC(Delta, ZSTD(1)),
    loop LowCardinality(String) COMMENT 'Name of the growth loop' CODEC(ZSTD(1)),
    inviter String COMMENT 'Who invited, as a pseudonym' CODEC(ZSTD(1)),
    locale LowCardinality(String) COMMENT 'Language of the inviter; empty when unknown' CODEC(ZSTD(1)),
    sent UInt64 COMMENT 'Invitations sent, a count' CODEC(T64, ZSTD(1)),
    joined UInt64 COMMENT 'Invitees who joined, a count' CODEC(T64, ZSTD(1)),
    fvm UInt64 COMMENT 'Invitees who reached their first valuable moment, a count' CODEC(T64, ZSTD(1))
)
ENGINE = ${summing_merge_tree}
PARTITION BY toYYYYMM(day)
ORDER BY (loop, inviter, day, locale)
TTL day + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Steps of invitations by inviter and day';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.invite_units${on_cluster} AS ${database}.invite_units_local
ENGINE = Distributed(${cluster}, ${database}, invite_units_local, cityHash64(inviter))
COMMENT 'Steps of invitations on all shards, sharded by inviter';
