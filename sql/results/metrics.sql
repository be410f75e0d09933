-- results.metrics: one row per cell of results.cells, split (val, test), slice (all, imputed, observed) and metric.
-- value is NULL where the metric is not defined; a slice without rows has none. ci_low to ci_high is the 95 %
-- percentile bootstrap interval (tasks/evaluation/bootstrap.py); n counts rows. Units: rmse and mae popularity points,
-- log_loss nats.
{% from "results/cell.sql" import identity %}
with

measured as (
    select
        result,
        unnest(metrics, recursive := true)
    from stored_results
)

select
    {{ identity('cells') }},
    measured.split,
    measured.slice,
    measured.metric,
    measured.value,
    measured.ci_low,
    measured.ci_high,
    measured.n
from results.cells as cells
inner join measured
    on
        cells.result = measured.result
        and cells.task = measured.task
order by all
