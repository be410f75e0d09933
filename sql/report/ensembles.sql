-- Of the report: one row per protocol, task and member of the run's ensembles, lowest seed, the heaviest member first.
select distinct
    protocol,
    task,
    model,
    member,
    weight,
    out_of_fold
from results.ensemble_members
where run_id = $run_id
qualify seed = min(seed) over (partition by protocol, task, model)
order by protocol, task, model, weight desc, member
