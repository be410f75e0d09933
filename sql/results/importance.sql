-- results.importance: one row per cell of results.cells and feature. method says what importance means: impurity or
-- gain (shares that add up to 1), coefficient (mean absolute value, per standard deviation of the feature), permutation
-- (loss of accuracy, or growth of RMSE in popularity points, when the feature is shuffled among validation rows).
{% from "results/cell.sql" import identity %}
with

measured as (
    select
        result,
        unnest(importance, recursive := true)
    from stored_results
)

select
    {{ identity('cells') }},
    measured.feature_name,
    measured.importance,
    measured.method
from results.cells as cells
inner join measured
    on
        cells.result = measured.result
        and cells.task = measured.task
order by all
