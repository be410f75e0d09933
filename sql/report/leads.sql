-- Of the report: one row per pair of models whose headline figures results.comparisons compares, for the tracks and the
-- budget of the run; they are of the newest cells, which need not be the run's own: value_a and value_b tell.
{% set table = "fold_comparisons" if has_folds is defined else "comparisons" %}
select
    comparisons.protocol,
    comparisons.task,
    comparisons.feature_set,
    comparisons.metric,
    comparisons.model_a,
    comparisons.model_b,
    comparisons.value_a,
    comparisons.value_b,
    comparisons.ci_low,
    comparisons.ci_high,
    comparisons.better
from results.{{ table }} as comparisons
inner join results.runs as runs on comparisons.budget = runs.budget
where
    runs.run_id = $run_id
    and comparisons.catalogue = runs.catalogue
    and comparisons.metric in ({{ headlines }})
    and comparisons.ci_low is not null
    {% if has_folds is defined %}
    and (comparisons.folds, comparisons.fold_seed) in (
        select (cells.folds, cells.fold_seed) from results.fold_cells as cells where cells.run_id = $run_id
    )
    {% endif %}
    and comparisons.staging_version in (select cells.staging_version from results.cells as cells where cells.run_id = $run_id)
order by all
