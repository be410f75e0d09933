-- Of the report: one row per cell of the run as it was trained (a multi-task model once), those of folds, too, slowest
-- first. fold: NULL for those of the single split. seconds:
-- from start to end of its process's work, scoring included; of a reused cell, in the run that trained it.
select
    protocol,
    string_agg(distinct task, ' and ' order by task) as task,
    model,
    feature_set,
    seed,
    fold,
    folds,
    fold_seed,
    any_value(status) as status,
    any_value(reused) as reused,
    any_value(error) as error,
    any_value(fit_seconds) as fit_seconds,
    any_value(predict_seconds) as predict_seconds,
    any_value(peak_rss_mb) as peak_rss_mb,
    any_value(started_at) as started_at,
    any_value(finished_at) as finished_at,
    epoch(any_value(finished_at) - any_value(started_at)) as seconds
from (
    from results.cells
    union all by name
    from results.fold_cells
) as every_cell
where run_id = $run_id
group by cell_key, protocol, model, feature_set, seed, fold, folds, fold_seed
order by seconds desc nulls last, protocol, task, model, feature_set, seed, fold
