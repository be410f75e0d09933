-- What results.learning_gains compares: each two neighbouring points of a curve of results.learning_curve, by the
-- metric that models are ranked by. a has more training rows than b; results_a and results_b are the cells' folders.
with

points as (
    select *
    from results.learning_curve
    where
        status = 'ok'
        and value is not null
        and metric in ({{ headlines }})
),

steps as (
    select
        *,
        lag(n_train) over curve as n_before,
        lag(value) over curve as value_before,
        lag(result) over curve as result_before
    from points
    window curve as (
        partition by run_id, protocol, task, model, feature_set, seed, metric
        order by n_train
    )
)

select
    run_id,
    protocol,
    task,
    model,
    feature_set,
    seed,
    budget,
    metric,
    n_before as rows_before,
    n_train as rows_after,
    value_before as value_b,
    value as value_a,
    [result] as results_a,
    [result_before] as results_b,
    source,
    is_generated,
    staging_version
from steps
where n_before is not null
