-- results.cross_validated: one row per catalogue, set of tracks (staging_version), budget, protocol, task, model,
-- feature set, number of folds and metric: the newest complete cross-validation. Every track is tested once, by a model
-- trained without it; value is the metric over all of them, the mean over seeds. ci_low to ci_high is a 95 % interval
-- for the mean over models trained on other tracks of the kind (tasks/evaluation/cross_validation.py says how, and how
-- often it holds). fold_sd, fold_low and fold_high: the spread of the folds' own figures. n: rows tested; n_train: rows
-- that each model was trained on; seconds are those of all folds.
select
    protocol,
    task,
    model,
    feature_set,
    metric,
    value,
    ci_low,
    ci_high,
    fold_sd,
    fold_low,
    fold_high,
    folds,
    seeds,
    n,
    n_train,
    fit_seconds,
    predict_seconds,
    budget,
    source,
    catalogue,
    is_current,
    is_generated,
    staging_version,
    started_at,
    run_id
from cross_validations
order by catalogue, staging_version, budget, protocol, task, feature_set, folds, metric, model
