-- results.figures: one row per set of tracks (staging_version), budget, protocol, task, model, feature set and metric:
-- the newest figure on the test split, the mean over seeds, its interval (the mean of the seeds' own) and its standard
-- deviation over seeds (NULL for one). results names the cells' folders below warehouse/cells/.
select
    staging_version,
    budget,
    protocol,
    task,
    model,
    feature_set,
    metric,
    avg(value) as value,
    avg(ci_low) as ci_low,
    avg(ci_high) as ci_high,
    stddev_samp(value) as sd,
    count(*) as seeds,
    min(seed) as seed,
    list(result order by seed) as results,
    avg(fit_seconds) as fit_seconds,
    avg(predict_seconds) as predict_seconds,
    avg(peak_rss_mb) as peak_rss_mb,
    max(n_train) as n_train,
    arg_max(source, started_at) as source,
    any_value(is_generated) as is_generated,
    any_value(is_study_file) as is_study_file,
    arg_max(snapshot, started_at) as snapshot,
    max(started_at) as started_at,
    arg_max(run_id, started_at) as run_id
from results.latest
where
    split = 'test'
    and slice = 'all'
group by staging_version, budget, protocol, task, model, feature_set, metric
