-- Partial sums of one minute of event time: every batch adds its rows, and merges add them up. Never
-- count(): ask for sum(n), sum(sum), sum(sum_sq), min(min), max(max), sumMap(histogram), grouped by
-- what is wanted. No mean and no percentile is stored, for those do not add.
CREATE TABLE IF NOT EXISTS ${database}.metric_windows${local}${on_cluster}
(
    window DateTime('UTC') COMMENT 'Start of the minute, UTC, in event time' CODEC(Delta, ZSTD(1)),
    experiment LowCardinality(String) COMMENT 'Key of the experiment; empty where the event carried none' CODEC(ZSTD(1)),
    version Int32 COMMENT 'Version of the definition that decided; 0 where there was none' CODEC(T64, ZSTD(1)),
    variation LowCardinality(String) COMMENT 'Key of the variation; empty where there was none' CODEC(ZSTD(1)),
    locale LowCardinality(String) COMMENT 'Language as a BCP 47 tag; empty when unknown' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'Name of the metric' CODEC(ZSTD(1)),
    n SimpleAggregateFunction(sum, UInt64) COMMENT 'Contributions: one for each exposure that an event carried' CODEC(T64, ZSTD(1)),
    sum SimpleAggregateFunction(sum, Float64) COMMENT 'Sum of the values, in the unit of the metric' CODEC(ZSTD(1)),
    sum_sq SimpleAggregateFunction(sum, Float64) COMMENT 'Sum of their squares' CODEC(ZSTD(1)),
    min SimpleAggregateFunction(min, Float64) COMMENT 'Smallest value' CODEC(ZSTD(1)),
    max SimpleAggregateFunction(max, Float64) COMMENT 'Greatest value' CODEC(ZSTD(1)),
    histogram SimpleAggregateFunction(sumMap, Map(Int32, UInt64)) COMMENT 'Values counted by bucket; at most 1 % relative error (analysis/sketches.py)' CODEC(ZSTD(1))
)
ENGINE = ${aggregating_merge_tree}
PARTITION BY toYYYYMM(window)
ORDER BY (experiment, metric, window, version, variation, locale)
TTL window + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Sums by minute, experiment, variation, locale and metric';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.metric_windows${on_cluster} AS ${database}.metric_windows_local
ENGINE = Distributed(${cluster}, ${database}, metric_windows_local, cityHash64(experiment, metric))
COMMENT 'Sums by minute, experiment, variation, locale and metric, on all shards';

-- The same by hour and by day. A late event changes its own hour and day, as its own minute.
CREATE TABLE IF NOT EXISTS ${database}.metric_hours${local}${on_cluster}
(
    window DateTime('UTC') COMMENT 'Start of the hour, UTC, in event time' CODEC(Delta, ZSTD(1)),
    experiment LowCardinality(String) COMMENT 'Key of the experiment; empty where the event carried none' CODEC(ZSTD(1)),
    version Int32 COMMENT 'Version of the definition that decided; 0 where there was none' CODEC(T64, ZSTD(1)),
    variation LowCardinality(String) COMMENT 'Key of the variation; empty where there was none' CODEC(ZSTD(1)),
    locale LowCardinality(String) COMMENT 'Language as a BCP 47 tag; empty when unknown' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'Name of the metric' CODEC(ZSTD(1)),
    n SimpleAggregateFunction(sum, UInt64) COMMENT 'Contributions: one for each exposure that an event carried' CODEC(T64, ZSTD(1)),
    sum SimpleAggregateFunction(sum, Float64) COMMENT 'Sum of the values, in the unit of the metric' CODEC(ZSTD(1)),
    sum_sq SimpleAggregateFunction(sum, Float64) COMMENT 'Sum of their squares' CODEC(ZSTD(1)),
    min SimpleAggregateFunction(min, Float64) COMMENT 'Smallest value' CODEC(ZSTD(1)),
    max SimpleAggregateFunction(max, Float64) COMMENT 'Greatest value' CODEC(ZSTD(1)),
    histogram SimpleAggregateFunction(sumMap, Map(Int32, UInt64)) COMMENT 'Values counted by bucket; at most 1 % relative error (analysis/sketches.py)' CODEC(ZSTD(1))
)
ENGINE = ${aggregating_merge_tree}
PARTITION BY toYYYYMM(window)
ORDER BY (experiment, metric, window, version, variation, locale)
TTL window + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Sums by hour, of metric_windows';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.metric_hours${on_cluster} AS ${database}.metric_hours_local
ENGINE = Distributed(${cluster}, ${database}, metric_hours_local, cityHash64(experiment, metric))
COMMENT 'Sums by hour, of metric_windows, on all shards';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.metric_hours_view${on_cluster}
TO ${database}.metric_hours${local}
AS SELECT toStartOfHour(window) AS window, experiment, version, variation, locale, metric, n, sum, sum_sq, min, max, histogram
FROM ${database}.metric_windows${local}
COMMENT 'Adds what metric_windows gets';

CREATE TABLE IF NOT EXISTS ${database}.metric_days${local}${on_cluster}
(
    window DateTime('UTC') COMMENT 'Start of the day, UTC, in event time' CODEC(Delta, ZSTD(1)),
    experiment LowCardinality(String) COMMENT 'Key of the experiment; empty where the event carried none' CODEC(ZSTD(1)),
    version Int32 COMMENT 'Version of the definition that decided; 0 where there was none' CODEC(T64, ZSTD(1)),
    variation LowCardinality(String) COMMENT 'Key of the variation; empty where there was none' CODEC(ZSTD(1)),
    locale LowCardinality(String) COMMENT 'Language as a BCP 47 tag; empty when unknown' CODEC(ZSTD(1)),
    metric LowCardinality(String) COMMENT 'Name of the metric' CODEC(ZSTD(1)),
    n SimpleAggregateFunction(sum, UInt64) COMMENT 'Contributions: one for each exposure that an event carried' CODEC(T64, ZSTD(1)),
    sum SimpleAggregateFunction(sum, Float64) COMMENT 'Sum of the values, in the unit of the metric' CODEC(ZSTD(1)),
    sum_sq SimpleAggregateFunction(sum, Float64) COMMENT 'Sum of their squares' CODEC(ZSTD(1)),
    min SimpleAggregateFunction(min, Float64) COMMENT 'Smallest value' CODEC(ZSTD(1)),
    max SimpleAggregateFunction(max, Float64) COMMENT 'Greatest value' CODEC(ZSTD(1)),
    histogram SimpleAggregateFunction(sumMap, Map(Int32, UInt64)) COMMENT 'Values counted by bucket; at most 1 % relative error (analysis/sketches.py)' CODEC(ZSTD(1))
)
ENGINE = ${aggregating_merge_tree}
PARTITION BY toYYYYMM(window)
ORDER BY (experiment, metric, window, version, variation, locale)
TTL window + INTERVAL 400 DAY
SETTINGS ${deduplication}, ttl_only_drop_parts = 1
COMMENT 'Sums by day, of metric_windows';

-- cluster only
CREATE TABLE IF NOT EXISTS ${database}.metric_days${on_cluster} AS ${database}.metric_days_local
ENGINE = Distributed(${cluster}, ${database}, metric_days_local, cityHash64(experiment, metric))
COMMENT 'Sums by day, of metric_windows, on all shards';

CREATE MATERIALIZED VIEW IF NOT EXISTS ${database}.metric_days_view${on_cluster}
TO ${database}.metric_days${local}
AS SELECT toStartOfDay(window) AS window, experiment, version, variation, locale, metric, n, sum, sum_sq, min, max, histogram
FROM ${database}.metric_windows${local}
COMMENT 'Adds what metric_windows gets';
