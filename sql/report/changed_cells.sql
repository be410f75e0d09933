-- Of the comparison of two runs: one row per cell of either, with its status and settings in both; NULL where a run does
-- not have it. a is of $run_id, b of $other.
with

cells as (
    select
        run_id,
        protocol,
        model,
        feature_set,
        seed,
        coalesce(fold, 0) as fold,
        coalesce(folds, 0) as folds,
        coalesce(fold_seed, 0) as fold_seed,
        string_agg(distinct task, ' and ' order by task) as tasks,
        any_value(status) as status,
        any_value(error) as error,
        any_value(cast(params as varchar)) as params,
        any_value(result) as result
    from (
        from results.cells
        union all by name
        from results.fold_cells
    ) as every_cell
    where run_id in ($run_id, $other)
    group by run_id, protocol, model, feature_set, seed, fold, folds, fold_seed, cell_key
)

select
    protocol,
    tasks,
    model,
    feature_set,
    seed,
    nullif(fold, 0) as fold,
    nullif(folds, 0) as folds,
    if(folds > 0, fold_seed, null) as fold_seed,
    a.status as status_a,
    b.status as status_b,
    a.error as error_a,
    a.params as params_a,
    b.params as params_b,
    coalesce(a.result = b.result, false) as is_same_result
from (select * from cells where run_id = $run_id) as a
full join (select * from cells where run_id = $other) as b
    using (protocol, tasks, model, feature_set, seed, fold, folds, fold_seed)
order by protocol, tasks, model, feature_set, seed, folds, fold_seed, fold
