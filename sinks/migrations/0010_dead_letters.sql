-- Records that can never be stored as they are, with all that is needed to look at one or to replay it.
CREATE TABLE IF NOT EXISTS ${database}.dead_letters${local}${on_cluster}
(
    topic LowCardinality(String) COMMENT 'Kafka topic' CODEC(ZSTD(1)),
    partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    epoch LowCardinality(String) COMMENT 'Which life of the partition: a topic made anew gives the same offsets again' CODEC(ZSTD(1)),
    offset Int64 COMMENT 'Offset in that partition' CODEC(Delta, ZSTD(1)),
    reason LowCardinality(String) COMMENT 'What kind of wrong it is (streams/reasons.py)' CODEC(ZSTD(1)),
    detail String COMMENT 'What is wrong, as a sentence' CODEC(ZSTD(1)),
    key Nullable(String) COMMENT 'The key, as in Kafka' CODEC(ZSTD(1)),
    value Nullable(String) COMMENT 'The original bytes; null for a tombstone' CODEC(ZSTD(1)),
    headers Array(Tuple(name String, value Nullable(String))) COMMENT 'The record had these headers' CODEC(ZSTD(1)),
    schema_id Nullable(Int64) COMMENT 'The schema it names; null where it names none' CODEC(ZSTD(1)),
    timestamp DateTime64(3, 'UTC') COMMENT 'Timestamp of the record in Kafka, UTC, in ms' CODEC(Delta, ZSTD(1)),
    died_at DateTime64(3, 'UTC') COMMENT 'When it was given up, UTC, in ms' CODEC(Delta, ZSTD(1)),
    worker LowCardinality(String) COMMENT 'Who gave it up' CODEC(ZSTD(1)),
    worker_version LowCardinality(String) COMMENT 'The release of that worker' CODEC(ZSTD(1))
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(died_at)
ORDER BY (topic, died_at, partition, offset)
TTL toDateTime(died_at) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Dead letters, with their reasons and their original bytes';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.dead_letters${on_cluster} AS ${database}.dead_letters_local
ENGINE = Distributed(${cluster}, ${database}, dead_letters_local, cityHash64(topic, partition))
COMMENT 'Dead letters, with their reasons and their original bytes, on all shards';

-- What became of a dead letter. A replayed one was put into its topic again by a person; an applied one
-- came out of there and was stored, once, however often it was replayed; a dropped one is not wanted.
CREATE TABLE IF NOT EXISTS ${database}.dead_letter_marks${local}${on_cluster}
(
    topic LowCardinality(String) COMMENT 'Kafka topic' CODEC(ZSTD(1)),
    partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    epoch LowCardinality(String) COMMENT 'Which life of the partition the dead letter is of' CODEC(ZSTD(1)),
    offset Int64 COMMENT 'Offset of the dead letter' CODEC(Delta, ZSTD(1)),
    mark LowCardinality(String) COMMENT 'replayed, applied or dropped' CODEC(ZSTD(1)),
    at_epoch LowCardinality(String) COMMENT 'Of an applied one: which life of the partition at_offset is of' CODEC(ZSTD(1)),
    at_offset Nullable(Int64) COMMENT 'Offset that the replayed record got, in the same partition' CODEC(ZSTD(1)),
    marked_at DateTime64(3, 'UTC') COMMENT 'When, UTC, in ms' CODEC(Delta, ZSTD(1)),
    marked_by LowCardinality(String) COMMENT 'Who: a worker, or the name given on the command line' CODEC(ZSTD(1)),
    note String COMMENT 'Why, in the words of whoever did it' CODEC(ZSTD(1))
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(marked_at)
ORDER BY (topic, partition, offset, mark)
TTL toDateTime(marked_at) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'What became of dead letters';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.dead_letter_marks${on_cluster} AS ${database}.dead_letter_marks_local
ENGINE = Distributed(${cluster}, ${database}, dead_letter_marks_local, cityHash64(topic, partition))
COMMENT 'What became of dead letters, on all shards';
