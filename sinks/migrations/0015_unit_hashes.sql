-- A report groups all units of an experiment: it reads a hash of 8 bytes twice as fast as a name, and
-- the lowest and highest variation faster than the set of them. Parts from before compute them when
-- they are read, and have them once they are merged.
ALTER TABLE ${database}.unit_metrics${local}${on_cluster}
    ADD COLUMN IF NOT EXISTS unit_hash SimpleAggregateFunction(any, UInt64) MATERIALIZED cityHash64(unit) COMMENT 'What reports group units by' CODEC(NONE);

ALTER TABLE ${database}.unit_exposures${local}${on_cluster}
    ADD COLUMN IF NOT EXISTS unit_hash SimpleAggregateFunction(any, UInt64) MATERIALIZED cityHash64(unit) COMMENT 'What reports group units by' CODEC(NONE),
    ADD COLUMN IF NOT EXISTS lowest_variation SimpleAggregateFunction(min, UInt64) MATERIALIZED arrayMin(arrayMap(variation -> cityHash64(variation), variations)) COMMENT 'The least hash of the variations seen' CODEC(LZ4),
    ADD COLUMN IF NOT EXISTS highest_variation SimpleAggregateFunction(max, UInt64) MATERIALIZED arrayMax(arrayMap(variation -> cityHash64(variation), variations)) COMMENT 'The greatest hash of the variations seen; another than the least where a unit saw several' CODEC(LZ4);

-- cluster only
ALTER TABLE ${database}.unit_metrics${on_cluster}
    ADD COLUMN IF NOT EXISTS unit_hash UInt64 MATERIALIZED cityHash64(unit) COMMENT 'What reports group units by';

-- cluster only
ALTER TABLE ${database}.unit_exposures${on_cluster}
    ADD COLUMN IF NOT EXISTS unit_hash UInt64 MATERIALIZED cityHash64(unit) COMMENT 'What reports group units by',
    ADD COLUMN IF NOT EXISTS lowest_variation UInt64 MATERIALIZED arrayMin(arrayMap(variation -> cityHash64(variation), variations)) COMMENT 'The least hash of the variations seen',
    ADD COLUMN IF NOT EXISTS highest_variation UInt64 MATERIALIZED arrayMax(arrayMap(variation -> cityHash64(variation), variations)) COMMENT 'The greatest hash of the variations seen; another than the least where a unit saw several';
