-- One row for every outcome, read by unit: a report joins them with the unit's exposures.
CREATE TABLE IF NOT EXISTS ${database}.outcomes${local}${on_cluster}
(
    event_id String COMMENT 'Identifies the event for good; an event sent twice has it twice' CODEC(ZSTD(1)),
    ts DateTime64(3, 'UTC') COMMENT 'Event time, UTC, in ms' CODEC(Delta, ZSTD(1)),
    unit String COMMENT 'Whom the values belong to: the unit of an exposure, as a pseudonym' CODEC(ZSTD(1)),
    values Array(Tuple(name LowCardinality(String), value Float64)) COMMENT 'What was measured, by name, each in its own unit; 1 for a conversion' CODEC(ZSTD(1)),
    dimensions Array(Tuple(name LowCardinality(String), value String)) COMMENT 'What the values can be told apart by' CODEC(ZSTD(1)),
    _topic LowCardinality(String) COMMENT 'Kafka topic that the event came from' CODEC(ZSTD(1)),
    _partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    _offset Int64 COMMENT 'Offset in that partition' CODEC(Delta, ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the row was stored, UTC, in ms' CODEC(Delta, ZSTD(1)),
    INDEX times ts TYPE minmax GRANULARITY 1,
    INDEX offsets _offset TYPE minmax GRANULARITY 1
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(ts)
ORDER BY (unit, ts)
TTL toDateTime(ts) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Outcomes: anything that a service measured of a unit. A month is dropped whole once its last event is 400 days old';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.outcomes${on_cluster} AS ${database}.outcomes_local
ENGINE = Distributed(${cluster}, ${database}, outcomes_local, cityHash64(unit))
COMMENT 'Outcomes on all shards, sharded by unit';
