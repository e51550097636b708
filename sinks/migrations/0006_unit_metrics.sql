-- What a report is made of: the unit is what was randomised, so the variance is that of units. One
-- row for a unit, variation and day once merged; ask for sum(n), sum(turn_ms_sum), grouped by unit.
-- A unit that was exposed and took no turn has no row here and counts as zero: unit_exposures has it.
CREATE TABLE IF NOT EXISTS ${database}.unit_metrics${local}${on_cluster}
(
    day Date COMMENT 'Day of the turns, UTC, in event time' CODEC(Delta, ZSTD(1)),
    experiment LowCardinality(String) COMMENT 'Key of the experiment' CODEC(ZSTD(1)),
    version Int32 COMMENT 'Version of the definition that decided' CODEC(T64, ZSTD(1)),
    variation LowCardinality(String) COMMENT 'Key of the variation' CODEC(ZSTD(1)),
    unit String COMMENT 'The unit of the exposure, as a pseudonym' CODEC(ZSTD(1)),
    n UInt64 COMMENT 'Turns' CODEC(T64, ZSTD(1)),
    turn_ms_sum Int64 COMMENT 'Wall time of the turns, in ms: the sum' CODEC(T64, ZSTD(1)),
    model_ms_sum Int64 COMMENT 'Time waited for models, in ms: the sum' CODEC(T64, ZSTD(1)),
    bundle_tokens_sum Int64 COMMENT 'Context given to models, in tokens: the sum' CODEC(T64, ZSTD(1)),
    output_tokens_sum Int64 COMMENT 'What models wrote, in tokens: the sum' CODEC(T64, ZSTD(1)),
    retries_sum Int64 COMMENT 'Model calls repeated, a count: the sum' CODEC(T64, ZSTD(1)),
    fallbacks_sum Int64 COMMENT 'Cheaper or canned answers, a count: the sum' CODEC(T64, ZSTD(1)),
    tool_calls_sum Int64 COMMENT 'Tools called, a count: the sum' CODEC(T64, ZSTD(1)),
    acts_sum Int64 COMMENT 'Acts of characters, a count: the sum' CODEC(T64, ZSTD(1)),
    choices_sum Int64 COMMENT 'Choices offered, a count: the sum' CODEC(T64, ZSTD(1)),
    time_ticks_sum Int64 COMMENT 'How far the story went, in ticks: the sum' CODEC(T64, ZSTD(1)),
    turn_ms_n UInt64 ALIAS n COMMENT 'Values in turn_ms_sum: every turn has one',
    model_ms_n UInt64 ALIAS n COMMENT 'Values in model_ms_sum: every turn has one',
    bundle_tokens_n UInt64 ALIAS n COMMENT 'Values in bundle_tokens_sum: every turn has one',
    output_tokens_n UInt64 ALIAS n COMMENT 'Values in output_tokens_sum: every turn has one',
    retries_n UInt64 ALIAS n COMMENT 'Values in retries_sum: every turn has one',
    fallbacks_n UInt64 ALIAS n COMMENT 'Values in fallbacks_sum: every turn has one',
    tool_calls_n UInt64 ALIAS n COMMENT 'Values in tool_calls_sum: every turn has one',
    acts_n UInt64 ALIAS n COMMENT 'Values in acts_sum: every turn has one',
    choices_n UInt64 ALIAS n COMMENT 'Values in choices_sum: every turn has one',
    time_ticks_n UInt64 ALIAS n COMMENT 'Values in time_ticks_sum: every turn has one'
)
ENGINE = ${summing_merge_tree}
PARTITION BY toYYYYMM(day)
ORDER BY (experiment, unit, variation, version, day)
TTL day + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Turns by unit and day: the count of turns and the sum of each of their metrics';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.unit_metrics${on_cluster} AS ${database}.unit_metrics_local
ENGINE = Distributed(${cluster}, ${database}, unit_metrics_local, cityHash64(unit))
COMMENT 'Turns by unit and day on all shards, sharded by unit';
