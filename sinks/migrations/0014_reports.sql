-- Reports as they were given out, byte by byte. The id is a hash of the content, so a report that is
-- stored twice is the same one; ask with LIMIT 1.
CREATE TABLE IF NOT EXISTS ${database}.reports${local}${on_cluster}
(
    id String COMMENT 'A hash of the body without it, in hexadecimal' CODEC(ZSTD(1)),
    experiment LowCardinality(String) COMMENT 'Key of the experiment' CODEC(ZSTD(1)),
    made_at DateTime64(3, 'UTC') COMMENT 'When it was made, UTC, in ms' CODEC(Delta, ZSTD(1)),
    definition_version Int32 COMMENT 'Version of the definition it was made by' CODEC(T64, ZSTD(1)),
    code_version LowCardinality(String) COMMENT 'Release of the service that made it' CODEC(ZSTD(1)),
    body String COMMENT 'The report as JSON, exactly as it was answered' CODEC(ZSTD(3))
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(made_at)
ORDER BY id
TTL toDateTime(made_at) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Reports that were given out. A month is dropped whole once its last report is 400 days old';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.reports${on_cluster} AS ${database}.reports_local
ENGINE = Distributed(${cluster}, ${database}, reports_local, cityHash64(id))
COMMENT 'Reports that were given out, on all shards';
