-- When an API key was last used. Each process of the service adds a row for a key it has seen, once a
-- minute at most; ask for max(last_used_at) and sum(requests), grouped by key.
CREATE TABLE IF NOT EXISTS ${database}.key_uses${local}${on_cluster}
(
    key String COMMENT 'The id of the key, which is no secret' CODEC(ZSTD(1)),
    last_used_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'The last request with it, UTC, in ms' CODEC(Delta, ZSTD(1)),
    requests SimpleAggregateFunction(sum, UInt64) COMMENT 'Requests with it, a count; some of the last minute may be missing after a crash' CODEC(T64, ZSTD(1))
)
ENGINE = ${aggregating_merge_tree}
ORDER BY key
SETTINGS ${deduplication}
COMMENT 'The last use of each API key';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.key_uses${on_cluster} AS ${database}.key_uses_local
ENGINE = Distributed(${cluster}, ${database}, key_uses_local, cityHash64(key))
COMMENT 'The last use of each API key, on all shards';
