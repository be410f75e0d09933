-- results.figures: one row per catalogue, set of tracks (staging_version), budget, protocol, task, model, feature set
-- and metric: the newest figure on the test split, the mean over seeds, its interval (the mean of the seeds' own) and
-- its standard deviation over seeds (NULL for one). results names the cells' folders below warehouse/cells/; figures of
-- equal test_rows are of the same rows, those of NULL are not known to be.
select
    latest.catalogue,
    latest.staging_version,
    latest.budget,
    latest.protocol,
    latest.task,
    latest.model,
    latest.feature_set,
    latest.metric,
    avg(latest.value) as value,
    avg(latest.ci_low) as ci_low,
    avg(latest.ci_high) as ci_high,
    stddev_samp(latest.value) as sd,
    count(*) as seeds,
    min(latest.seed) as seed,
    list(latest.result order by latest.seed) as results,
    any_value(latest.test_rows) as test_rows,
    avg(latest.fit_seconds) as fit_seconds,
    avg(latest.predict_seconds) as predict_seconds,
    avg(latest.peak_rss_mb) as peak_rss_mb,
    max(latest.n_train) as n_train,
    max(latest.sampled_from) as sampled_from,
    any_value(latest.sample_reason) as sample_reason,
    arg_max(latest.source, latest.started_at) as source,
    any_value(latest.is_current) as is_current,
    any_value(latest.is_generated) as is_generated,
    arg_max(latest.snapshot, latest.started_at) as snapshot,
    max(latest.started_at) as started_at,
    arg_max(latest.run_id, latest.started_at) as run_id
from results.latest as latest
where
    latest.split = 'test'
    and latest.slice = 'all'
group by
    latest.catalogue,
    latest.staging_version,
    latest.budget,
    latest.protocol,
    latest.task,
    latest.model,
    latest.feature_set,
    latest.metric
