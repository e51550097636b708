-- A merge of raw rows costs more than their insert did (docs/performance.md). Merging ten parts of a
-- size at once instead of five rewrites a row log(10) rather than log(5) times; a month of inserts
-- ends in about 40 parts instead of 30.
ALTER TABLE ${database}.exposures${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;

ALTER TABLE ${database}.turn_metrics${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;

ALTER TABLE ${database}.invites${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;

ALTER TABLE ${database}.outcomes${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;

-- Each batch adds a few rows to each of these, and two parts of them would be merged at once: the
-- files of a part cost more than its rows.
ALTER TABLE ${database}.metric_windows${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 8;

ALTER TABLE ${database}.metric_hours${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 8;

ALTER TABLE ${database}.metric_days${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 8;

ALTER TABLE ${database}.unit_metrics${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 4;

ALTER TABLE ${database}.unit_exposures${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 4;

ALTER TABLE ${database}.invite_units${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 4;

ALTER TABLE ${database}.batches${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 8;

ALTER TABLE ${database}.batch_totals${local}${on_cluster} MODIFY SETTING min_parts_to_merge_at_once = 8;
