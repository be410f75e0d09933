-- Of the report: one row per task, protocol, model and feature of the run's cells on feature set all; share: of all the
-- model's importance, 0 to 1 (what shuffling improves counts as none), mean over seeds. method: see results.importance.
with

shares as (
    select
        task,
        protocol,
        model,
        seed,
        feature_name,
        method,
        greatest(importance, 0) / nullif(
            sum(greatest(importance, 0)) over (partition by task, protocol, model, seed), 0
        ) as share
    from results.importance
    where run_id = $run_id and feature_set = 'all'
)

select
    task,
    protocol,
    model,
    feature_name,
    any_value(method) as method,
    avg(share) as share
from shares
where share is not null
group by task, protocol, model, feature_name
order by all
