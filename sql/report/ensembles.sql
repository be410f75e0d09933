-- Of the report: a row per ensemble (by protocol, task, feature set; lowest seed) and member, the heaviest first.
select distinct
    protocol,
    task,
    model,
    feature_set,
    member,
    weight,
    out_of_fold
from results.ensemble_members
where run_id = $run_id
qualify seed = min(seed) over (partition by protocol, task, model, feature_set)
order by protocol, task, model, feature_set, weight desc, member
