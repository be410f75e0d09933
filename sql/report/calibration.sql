-- Of the report: one row per protocol, model and bin of results.calibration: the run's test rows, feature set all,
-- seeds together.
select
    protocol,
    model,
    bin,
    sum(n) as n,
    sum(n * confidence) / sum(n) as confidence,
    sum(n * accuracy) / sum(n) as accuracy
from results.calibration
where run_id = $run_id and split = 'test' and feature_set = 'all'
group by protocol, model, bin
order by protocol, model, bin
