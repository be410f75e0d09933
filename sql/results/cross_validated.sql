-- results.cross_validated: one row per catalogue, set of tracks (staging_version), budget, protocol, task, model,
-- feature set, number and seed of the folds, and metric: the newest complete cross-validation. Every track is tested
-- once, by a model trained without it; value is the metric over all of them, the mean over seeds of the models. ci_low
-- to ci_high is a 95 % interval for the mean over models trained on other tracks of the kind
-- (tasks/evaluation/cross_validation.py says how, and how often it holds). fold_sd, fold_low and fold_high: the spread
-- of the folds' own figures. n: rows tested; n_train: rows that each model was trained on; seconds are those of all
-- folds.
{% from "results/cell.sql" import division %}
select
    protocol,
    task,
    model,
    feature_set,
    metric,
    avg(value) as value,
    avg(ci_low) as ci_low,
    avg(ci_high) as ci_high,
    avg(fold_sd) as fold_sd,
    avg(fold_low) as fold_low,
    avg(fold_high) as fold_high,
    {{ division() }},
    count(*) as seeds,
    any_value(n) as n,
    any_value(n_train) as n_train,
    avg(fit_seconds) as fit_seconds,
    avg(predict_seconds) as predict_seconds,
    budget,
    arg_max(source, started_at) as source,
    catalogue,
    any_value(is_current) as is_current,
    any_value(is_generated) as is_generated,
    staging_version,
    max(started_at) as started_at,
    arg_max(run_id, started_at) as run_id
from pooled_folds
where is_newest
group by catalogue, staging_version, budget, protocol, task, model, feature_set, {{ division() }}, metric
order by catalogue, staging_version, budget, protocol, task, feature_set, {{ division() }}, metric, model
