-- results.cross_validations: one row per run, protocol, task, model, feature_set, seed and metric of a complete
-- cross-validation: the figure over all its rows, each tested once. Columns as in results.cross_validated, which has
-- the newest (is_newest), as means over seeds.
{% from "results/cell.sql" import division %}
select
    run_id,
    protocol,
    task,
    model,
    feature_set,
    seed,
    source,
    {{ division() }},
    metric,
    value,
    ci_low,
    ci_high,
    fold_sd,
    fold_low,
    fold_high,
    n,
    n_train,
    fit_seconds,
    predict_seconds,
    budget,
    catalogue,
    is_generated,
    staging_version,
    is_newest
from pooled_folds
order by run_id, protocol, task, model, feature_set, seed, metric
