-- Who did what to what. Read newest first, in the order of the log, which is that of each chain, too; so
-- ordered by offset. Kept for good: no TTL, and no statement of ours changes or deletes a row.
CREATE TABLE IF NOT EXISTS ${database}.audit_log${local}${on_cluster}
(
    event_id String COMMENT 'Identifies the entry for good; one that was sent twice has it twice' CODEC(ZSTD(1)),
    ts DateTime64(3, 'UTC') COMMENT 'When it happened, UTC, in ms' CODEC(Delta, ZSTD(1)),
    actor LowCardinality(String) COMMENT 'Who did it: a role, the name of a key or a person''s account' CODEC(ZSTD(1)),
    action LowCardinality(String) COMMENT 'What was done, as thing.verb' CODEC(ZSTD(1)),
    target String COMMENT 'What it was done to' CODEC(ZSTD(1)),
    before Nullable(String) COMMENT 'The state before as JSON, without secrets; null where there was none' CODEC(ZSTD(3)),
    after Nullable(String) COMMENT 'The state after as JSON, without secrets; null where there is none' CODEC(ZSTD(3)),
    request_id String COMMENT 'The HTTP request that did it; empty when it was done otherwise' CODEC(ZSTD(1)),
    comment String COMMENT 'Why, in the words of who did it' CODEC(ZSTD(1)),
    chain LowCardinality(String) COMMENT 'The chain that the entry is a link of' CODEC(ZSTD(1)),
    sequence Int64 COMMENT 'Its place in the chain, from 1 on without a gap' CODEC(Delta, ZSTD(1)),
    previous_hash String COMMENT 'The hash of the entry before it in its chain' CODEC(ZSTD(1)),
    hash String COMMENT 'SHA-256 of all the other fields: service/audit_chain.py' CODEC(ZSTD(1)),
    _topic LowCardinality(String) COMMENT 'Kafka topic that the event came from' CODEC(ZSTD(1)),
    _partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    _offset Int64 COMMENT 'Offset in that partition' CODEC(Delta, ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the row was stored, UTC, in ms' CODEC(Delta, ZSTD(1)),
    INDEX times ts TYPE minmax GRANULARITY 1
)
ENGINE = ${merge_tree}
PARTITION BY toYear(ts)
ORDER BY _offset
SETTINGS ${deduplication}
COMMENT 'The audit log: every change and every denied attempt, chained by hash';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.audit_log${on_cluster} AS ${database}.audit_log_local
ENGINE = Distributed(${cluster}, ${database}, audit_log_local, cityHash64(event_id))
COMMENT 'The audit log on all shards';
