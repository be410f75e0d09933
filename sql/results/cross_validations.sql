-- What results.cross_validated and results.fold_pairs are made from: the figures of sql/results/pooled_folds.sql with
-- their intervals, the mean over seeds. results names the cross-validations, one a seed.
select
    catalogue,
    staging_version,
    budget,
    protocol,
    task,
    model,
    feature_set,
    folds,
    metric,
    avg(value) as value,
    avg(ci_low) as ci_low,
    avg(ci_high) as ci_high,
    avg(fold_sd) as fold_sd,
    avg(fold_low) as fold_low,
    avg(fold_high) as fold_high,
    count(*) as seeds,
    any_value(n) as n,
    any_value(n_train) as n_train,
    avg(fit_seconds) as fit_seconds,
    avg(predict_seconds) as predict_seconds,
    list('folds of ' || whole order by seed) as results,
    arg_max(source, started_at) as source,
    any_value(is_current) as is_current,
    any_value(is_generated) as is_generated,
    max(started_at) as started_at,
    arg_max(run_id, started_at) as run_id
from pooled_folds
group by catalogue, staging_version, budget, protocol, task, model, feature_set, folds, metric
