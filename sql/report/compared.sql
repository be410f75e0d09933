-- Of the comparison of two runs: one row per protocol, task, model, feature set and headline metric that both have, test
-- rows, means over seeds; value_a is of $run_id, value_b of $other. results_a, results_b: the cells' folders, one a seed.
-- has_same_rows: both were measured on the same test rows, so that their difference can be paired.
with

test_rows as (
    select
        run_id,
        protocol,
        task,
        model,
        feature_set,
        bit_xor(hash(track_id)) as test_rows
    from results.predictions
    where
        split = 'test'
        and run_id in ($run_id, $other)
        and seed = (
            select min(cells.seed)
            from results.cells as cells
            where
                cells.run_id = predictions.run_id
                and cells.protocol = predictions.protocol
                and cells.task = predictions.task
                and cells.model = predictions.model
                and cells.feature_set = predictions.feature_set
                and cells.status = 'ok'
        )
    group by all
),

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
        any_value(test_rows.test_rows) as test_rows
    from results.metrics as metrics
    inner join results.cells as cells using (run_id, protocol, task, model, feature_set, seed)
    inner join test_rows using (run_id, protocol, task, model, feature_set)
    where
        metrics.split = 'test'
        and metrics.slice = 'all'
        and metrics.metric in ('accuracy', 'rmse')
        and metrics.value is not null
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
    a.test_rows = b.test_rows as has_same_rows
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
