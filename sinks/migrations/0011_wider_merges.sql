-- A merge of raw rows costs more than their insert did (docs/performance.md). Merging ten parts of a
-- size at once instead of five rewrites a row log(10) rather than log(5) times; a month of inserts
-- ends in about 40 parts instead of 30.
ALTER TABLE ${database}.exposures${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;

ALTER TABLE ${database}.turn_metrics${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;

ALTER TABLE ${database}.invites${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;

ALTER TABLE ${database}.outcomes${local}${on_cluster} MODIFY SETTING merge_selector_base = 10;
