-- results.leak_ledger: one row per set of tracks (staging_version), task, model, feature set, seed and metric, on the
-- test split, budget full only. What the study's imputation is worth: its figure on rows with a filled value (imputed)
-- and without one (observed), and inflation: published minus label_free, NULL where that protocol was not run.
select
    task,
    model,
    feature_set,
    metric,
    max(value) filter (where protocol = 'published' and slice = 'all') as published_all,
    max(value) filter (where protocol = 'published' and slice = 'imputed') as published_imputed,
    max(value) filter (where protocol = 'published' and slice = 'observed') as published_observed,
    max(value) filter (where protocol = 'label_free' and slice = 'all') as label_free_all,
    max(value) filter (where protocol = 'cold_start' and slice = 'all') as cold_start_all,
    published_all - label_free_all as inflation,
    seed,
    any_value(source) as source,
    any_value(is_generated) as is_generated,
    any_value(snapshot) as snapshot,
    staging_version
from results.latest
where
    split = 'test'
    and budget = 'full'
group by task, model, feature_set, metric, seed, staging_version
order by is_generated, staging_version, task, metric, published_all desc
