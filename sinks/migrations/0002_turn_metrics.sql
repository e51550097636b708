-- One row for every turn. A turn belongs to many experiments at once, so none can lead the order:
-- the hour does (reports and checks ask for spans of time), then the session, whose rows compress
-- well side by side (35 bytes a simulated turn, 16 of them the event's id). Erasure finds a player
-- by filter.
CREATE TABLE IF NOT EXISTS ${database}.turn_metrics${local}${on_cluster}
(
    event_id String COMMENT 'Identifies the event for good; an event sent twice has it twice' CODEC(ZSTD(1)),
    ts DateTime64(3, 'UTC') COMMENT 'Event time, UTC, in ms' CODEC(Delta, ZSTD(1)),
    session String COMMENT 'The session that the turn belongs to, as a pseudonym' CODEC(ZSTD(1)),
    player String COMMENT 'The player whose turn it was, as a pseudonym' CODEC(ZSTD(1)),
    locale LowCardinality(String) COMMENT 'Language of the session as a BCP 47 tag; empty when unknown' CODEC(ZSTD(1)),
    exposures Array(Tuple(experiment LowCardinality(String), version Int32, variation LowCardinality(String), unit String)) COMMENT 'The experiments that shaped the turn; it counts once for each' CODEC(ZSTD(1)),
    turn_ms Int32 COMMENT 'Wall time of the whole turn, in ms' CODEC(T64, ZSTD(1)),
    model_ms Int32 COMMENT 'Time spent waiting for models, summed over calls, in ms' CODEC(T64, ZSTD(1)),
    bundle_tokens Int32 COMMENT 'Size of the context bundle given to the model, in tokens' CODEC(T64, ZSTD(1)),
    output_tokens Int32 COMMENT 'What models wrote in the turn, in tokens' CODEC(T64, ZSTD(1)),
    retries Int32 COMMENT 'Model calls repeated after a failure, a count' CODEC(T64, ZSTD(1)),
    fallbacks Int32 COMMENT 'Times that a cheaper or canned answer stood in, a count' CODEC(T64, ZSTD(1)),
    tool_calls Int32 COMMENT 'Tools called by models, a count' CODEC(T64, ZSTD(1)),
    acts Int32 COMMENT 'Acts performed by characters, a count' CODEC(T64, ZSTD(1)),
    choices Int32 COMMENT 'Choices offered to the player, a count' CODEC(T64, ZSTD(1)),
    time_ticks Int32 COMMENT 'How far the story went on, in ticks of its own clock' CODEC(T64, ZSTD(1)),
    _topic LowCardinality(String) COMMENT 'Kafka topic that the event came from' CODEC(ZSTD(1)),
    _partition Int32 COMMENT 'Partition of that topic' CODEC(T64, ZSTD(1)),
    _offset Int64 COMMENT 'Offset in that partition' CODEC(Delta, ZSTD(1)),
    inserted_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the row was stored, UTC, in ms' CODEC(Delta, ZSTD(1)),
    INDEX players player TYPE bloom_filter GRANULARITY 1,
    INDEX offsets _offset TYPE minmax GRANULARITY 1
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(ts)
ORDER BY (toStartOfHour(ts), session, ts)
TTL toDateTime(ts) + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Turns: what each cost and did. A month is dropped whole once its last event is 400 days old';

-- A turn carries one unit for each experiment; the session keeps all its turns on one shard.
-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.turn_metrics${on_cluster} AS ${database}.turn_metrics_local
ENGINE = Distributed(${cluster}, ${database}, turn_metrics_local, cityHash64(session))
COMMENT 'Turns on all shards, sharded by session';
