-- Of the comparison of two runs: one row per protocol, task, model, feature set and metric that both have, test
-- rows, means over seeds; value_a is of $run_id, value_b of $other. results_a, results_b: the cells' folders, one a seed.
-- has_same_rows: both were measured on the same test rows, so that their difference can be paired.
with

figures as (
    select
        metrics.run_id,
        metrics.protocol,
        metrics.task,
        metrics.model,
        metrics.feature_set,
        metrics.metric,
        avg(metrics.value) as value,
        list(cells.result order by metrics.seed) as results,
        any_value(cells.test_rows) as test_rows
    from results.metrics as metrics
    inner join results.cells as cells using (run_id, protocol, task, model, feature_set, seed)
    where
        metrics.split = 'test'
        and metrics.slice = 'all'
        and metrics.value is not null
        and metrics.run_id in ($run_id, $other)
    group by all
)

select
    a.protocol,
    a.task,
    a.model,
    a.feature_set,
    a.metric,
    a.value as value_a,
    b.value as value_b,
    a.results as results_a,
    b.results as results_b,
    coalesce(a.test_rows = b.test_rows, false) as has_same_rows
from figures as a
inner join figures as b
    on
        a.protocol = b.protocol
        and a.task = b.task
        and a.model = b.model
        and a.feature_set = b.feature_set
        and a.metric = b.metric
        and a.run_id = $run_id
        and b.run_id = $other
order by a.task, a.protocol, abs(value_a - value_b) desc, a.model, a.feature_set
