-- When a unit first met an experiment, and every variation it has seen. More than one is a mistake of
-- assignment, or of the clients; a report excludes such units and counts them.
CREATE TABLE IF NOT EXISTS ${database}.unit_exposures${local}${on_cluster}
(
    experiment LowCardinality(String) COMMENT 'Key of the experiment' CODEC(ZSTD(1)),
    unit String COMMENT 'The unit that was exposed, as a pseudonym' CODEC(ZSTD(1)),
    first SimpleAggregateFunction(min, Tuple(ts DateTime64(3, 'UTC'), version Int32, variation String, locale String, attributes Array(Tuple(name String, value String)))) COMMENT 'The first exposure in event time' CODEC(ZSTD(1)),
    last_ts SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'Event time of the last exposure, UTC, in ms' CODEC(Delta, ZSTD(1)),
    variations SimpleAggregateFunction(groupUniqArrayArray, Array(String)) COMMENT 'Every variation seen' CODEC(ZSTD(1)),
    n SimpleAggregateFunction(sum, UInt64) COMMENT 'Exposures' CODEC(T64, ZSTD(1))
)
ENGINE = ${aggregating_merge_tree}
ORDER BY (experiment, unit)
TTL toDateTime(last_ts) + INTERVAL 400 DAY
SETTINGS ${deduplication}
COMMENT 'The first exposure of each unit to each experiment; ask for min(first), grouped by unit';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.unit_exposures${on_cluster} AS ${database}.unit_exposures_local
ENGINE = Distributed(${cluster}, ${database}, unit_exposures_local, cityHash64(unit))
COMMENT 'The first exposure of each unit on all shards, sharded by unit';
