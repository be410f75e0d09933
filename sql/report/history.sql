-- Of the report: one row per protocol, model, member and epoch of the run's nets on feature set all, lowest seed.
select distinct
    protocol,
    model,
    member,
    epoch,
    loss,
    val_loss
from results.history
where run_id = $run_id and feature_set = 'all'
qualify seed = min(seed) over (partition by protocol, model)
order by protocol, model, member, epoch
