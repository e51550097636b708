-- The last row that a batch writes: when it is there, all its other rows are. Ranges of a partition and
-- epoch follow each other without gap or overlap, and rows + dead + skipped add up to what lies in Kafka
-- between them; `anabranch verify` holds the tables to that.
CREATE TABLE IF NOT EXISTS ${database}.batches${local}${on_cluster}
(
    topic LowCardinality(String) COMMENT 'Kafka topic' CODEC(ZSTD(1)),
    partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    epoch LowCardinality(String) COMMENT 'Which life of the partition: a topic made anew has another' CODEC(ZSTD(1)),
    first Int64 COMMENT 'First offset of the range' CODEC(Delta, ZSTD(1)),
    last Int64 COMMENT 'Last offset of the range, inclusive' CODEC(Delta, ZSTD(1)),
    rows UInt64 COMMENT 'Events stored in the raw table' CODEC(T64, ZSTD(1)),
    dead UInt64 COMMENT 'Records that became dead letters' CODEC(T64, ZSTD(1)),
    skipped UInt64 COMMENT 'Replays of dead letters that were left out, since another replay is stored' CODEC(T64, ZSTD(1)),
    lost UInt64 COMMENT 'Offsets of the range that Kafka had deleted before they were read' CODEC(T64, ZSTD(1)),
    min_ts Nullable(DateTime64(3, 'UTC')) COMMENT 'Earliest event time stored; null without rows' CODEC(ZSTD(1)),
    max_ts Nullable(DateTime64(3, 'UTC')) COMMENT 'Latest event time stored; null without rows' CODEC(ZSTD(1)),
    min_append Nullable(DateTime64(3, 'UTC')) COMMENT 'Earliest timestamp of a record in Kafka; null without records' CODEC(ZSTD(1)),
    max_append Nullable(DateTime64(3, 'UTC')) COMMENT 'Latest timestamp of a record in Kafka; null without records' CODEC(ZSTD(1)),
    applied_at DateTime64(3, 'UTC') COMMENT 'When the batch was formed, UTC, in ms' CODEC(Delta, ZSTD(1)),
    worker LowCardinality(String) COMMENT 'Who applied it' CODEC(ZSTD(1)),
    INDEX times applied_at TYPE minmax GRANULARITY 1
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(applied_at)
ORDER BY (topic, partition, first)
TTL toDateTime(applied_at) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Ranges of offsets applied: the proof of exactly once';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.batches${on_cluster} AS ${database}.batches_local
ENGINE = Distributed(${cluster}, ${database}, batches_local, cityHash64(topic, partition))
COMMENT 'Ranges of offsets applied: the proof of exactly once, on all shards';

-- A window that had closed and got events after that: whoever read it before read another number.
CREATE TABLE IF NOT EXISTS ${database}.restatements${local}${on_cluster}
(
    window DateTime('UTC') COMMENT 'Start of the minute that was changed, UTC' CODEC(Delta, ZSTD(1)),
    topic LowCardinality(String) COMMENT 'Kafka topic' CODEC(ZSTD(1)),
    partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    first Int64 COMMENT 'First offset of the batch that changed it' CODEC(Delta, ZSTD(1)),
    last Int64 COMMENT 'Last offset of that batch' CODEC(Delta, ZSTD(1)),
    events UInt64 COMMENT 'Late events in the window, a count' CODEC(T64, ZSTD(1)),
    applied_at DateTime64(3, 'UTC') COMMENT 'When the batch was formed, UTC, in ms' CODEC(Delta, ZSTD(1)),
    worker LowCardinality(String) COMMENT 'Who applied it' CODEC(ZSTD(1))
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(applied_at)
ORDER BY (topic, window)
TTL toDateTime(applied_at) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Late events by window and batch';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.restatements${on_cluster} AS ${database}.restatements_local
ENGINE = Distributed(${cluster}, ${database}, restatements_local, cityHash64(topic, partition))
COMMENT 'Late events by window and batch, on all shards';

-- The same added up for each life of a partition, so that asking where it stands reads one row.
CREATE TABLE IF NOT EXISTS ${database}.batch_totals${local}${on_cluster}
(
    topic LowCardinality(String) COMMENT 'Kafka topic' CODEC(ZSTD(1)),
    partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    epoch LowCardinality(String) COMMENT 'Which life of the partition' CODEC(ZSTD(1)),
    batches SimpleAggregateFunction(sum, UInt64) COMMENT 'Ranges applied, a count' CODEC(T64, ZSTD(1)),
    rows SimpleAggregateFunction(sum, UInt64) COMMENT 'Events stored in the raw table' CODEC(T64, ZSTD(1)),
    dead SimpleAggregateFunction(sum, UInt64) COMMENT 'Records that became dead letters' CODEC(T64, ZSTD(1)),
    skipped SimpleAggregateFunction(sum, UInt64) COMMENT 'Replays left out' CODEC(T64, ZSTD(1)),
    lost SimpleAggregateFunction(sum, UInt64) COMMENT 'Offsets deleted before they were read' CODEC(T64, ZSTD(1)),
    last SimpleAggregateFunction(max, Int64) COMMENT 'Last offset applied' CODEC(Delta, ZSTD(1)),
    max_ts SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'Latest event time; 1970 without rows' CODEC(Delta, ZSTD(1)),
    applied_at SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'When the last one was applied' CODEC(Delta, ZSTD(1))
)
ENGINE = ${aggregating_merge_tree}
ORDER BY (topic, partition, epoch)
TTL toDateTime(applied_at) + INTERVAL 400 DAY
SETTINGS ${deduplication}
COMMENT 'Batches added up by partition and epoch; ask for sum(rows), max(last), grouped by them';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.batch_totals${on_cluster} AS ${database}.batch_totals_local
ENGINE = Distributed(${cluster}, ${database}, batch_totals_local, cityHash64(topic, partition))
COMMENT 'Batches added up by partition and epoch, on all shards';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.batch_totals_view${on_cluster}
TO ${database}.batch_totals${local}
AS SELECT topic, partition, epoch, toUInt64(1) AS batches, rows, dead, skipped, lost, last,
    ifNull(max_ts, toDateTime64(0, 3, 'UTC')) AS max_ts, applied_at
FROM ${database}.batches${local}
COMMENT 'Adds what batches gets';
