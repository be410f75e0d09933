-- results.fold_metrics: one row per cell of results.fold_cells and metric, of the fold's own rows (its test rows).
-- ci_low to ci_high is the 95 % percentile bootstrap interval over these rows; n counts them. Units: as in
-- results.metrics.
{% from "results/cell.sql" import identity %}
with

measured as (
    select
        result,
        unnest(metrics, recursive := true)
    from stored_results
)

select
    {{ identity('cells', has_fold=true) }},
    measured.metric,
    measured.value,
    measured.ci_low,
    measured.ci_high,
    measured.n
from results.fold_cells as cells
inner join measured
    on
        cells.result = measured.result
        and cells.task = measured.task
where
    measured.split = 'test'
    and measured.slice = 'all'
order by all
