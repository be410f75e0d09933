-- results.fold_comparisons: results.comparisons of results.cross_validated: one row per catalogue, set of tracks
-- (staging_version), budget, protocol, task, feature set, number and seed of the folds, metric and pair of models: is
-- one better over all tracks, each tested once? Columns as there; the intervals and tests also cover other training
-- rows, as those of results.cross_validated.
{% set has_folds = true %}
{% include "results/comparisons.sql" %}
