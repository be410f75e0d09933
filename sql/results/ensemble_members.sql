-- results.ensemble_members: one row per cell of results.cells and kind of model that its ensemble may contain.
-- weight: its part of the mean, 0 if it was left out. out_of_fold: its accuracy (genre), or its RMSE in points
-- (popularity), alone, on the training and validation rows, each predicted by a fit to other rows. A net also watched
-- them to stop early, so its figure is slightly too good. Cells of cross-validations are not here.
{% from "results/cell.sql" import identity %}
with

measured as (
    select
        result,
        unnest(members) as member
    from stored_results
)

select
    {{ identity('cells') }},
    measured.member.name as member,
    measured.member.weight,
    measured.member.out_of_fold
from results.cells as cells
inner join measured
    on
        cells.result = measured.result
        -- earlier versions had an ensemble for each task, whose stored members do not say which
        and cells.task = coalesce(measured.member.task, cells.task)
order by all
