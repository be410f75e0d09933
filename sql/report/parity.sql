-- Of the report: one row per published figure that the run itself has (protocol published, seed 42), as in
-- results.parity, whose tolerances these are; that view has the newest run's figures instead.
select
    published.task,
    published.model,
    published.feature_set,
    published.split,
    published.metric,
    metrics.value as ours,
    published.value as published,
    metrics.value - published.value as difference,
    cast(parity.tolerance as double) as tolerance,
    abs(difference) <= parity.tolerance as is_within
from results.published as published
inner join results.metrics as metrics
    on
        published.task = metrics.task
        and published.model = metrics.model
        and published.feature_set = metrics.feature_set
        and published.split = metrics.split
        and published.metric = metrics.metric
inner join results.parity as parity
    on
        published.task = parity.task
        and published.model = parity.model
        and published.feature_set = parity.feature_set
        and published.split = parity.split
        and published.metric = parity.metric
where
    metrics.run_id = $run_id
    and metrics.protocol = 'published'
    and metrics.slice = 'all'
    and metrics.seed = 42
order by
    abs(difference) / parity.tolerance desc,
    published.task,
    published.model,
    published.feature_set,
    published.split,
    published.metric
