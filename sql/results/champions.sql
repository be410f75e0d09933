-- results.champions: one row per model that became champion for a task, newest first. The rule is in
-- tasks/prediction/champions.py.
-- Each catalogue has its own. is_current: it is the newest of its task and of the current catalogue (see
-- results.catalogues), and predicts. replaced: the champion before. value: its metric on validation rows, with the
-- 95 % interval. folds and fold_seed: of its cross-validation, NULL if it had none. On test rows: log_loss, ece (of
-- calibrated probabilities, and before calibration by temperature), coverage (the share of tracks whose popularity is
-- within the interval of plus or minus half_width, cut to 0 to 100; coverage_wanted on validation rows) with its 95 %
-- interval.
select
    task,
    model,
    feature_set,
    protocol,
    budget,
    seed,
    run_id,
    cell_key,
    result,
    model_path,
    model_sha256,
    feature_version,
    source,
    catalogue,
    is_generated,
    metric,
    value,
    ci_low,
    ci_high,
    chosen_at,
    replaced,
    reason,
    is_of_current and row_number() over (partition by task, catalogue order by chosen_at desc) = 1 as is_current,
    temperature,
    log_loss,
    log_loss_uncalibrated,
    ece,
    ece_uncalibrated,
    half_width,
    coverage_wanted,
    coverage,
    coverage_low,
    coverage_high,
    n_validation,
    n_test,
    nullif(len(folds), 0) as folds,
    if(len(folds) > 0, coalesce(fold_seed, {{ study_seed }}), null) as fold_seed
from stored_champions
order by chosen_at desc, task
