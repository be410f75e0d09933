-- results.confusion: one row per genre cell of results.cells, split, true genre and predicted genre; n counts rows.
{% from "results/cell.sql" import identity %}
with

counted as (
    select
        result,
        unnest(confusion, recursive := true)
    from stored_results
)

select
    {{ identity('cells', has_task=false) }},
    counted.split,
    counted.true_genre,
    counted.predicted_genre,
    counted.n
from results.cells as cells
inner join counted on cells.result = counted.result
where cells.task = 'genre'
order by all
