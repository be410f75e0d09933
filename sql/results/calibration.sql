-- results.calibration: one row per genre cell of results.cells, split (val, test) and bin of the most probable genre's
-- probability (15 of equal width from 0 to 1, those with rows). confidence: its mean in the bin; accuracy: how often it
-- was the true genre; n: rows.
{% from "results/cell.sql" import identity %}
with

measured as (
    select
        result,
        unnest(calibration, recursive := true)
    from stored_results
)

select
    {{ identity('cells', has_task=false) }},
    measured.split,
    measured.bin,
    measured.n,
    measured.confidence,
    measured.accuracy
from results.cells as cells
inner join measured on cells.result = measured.result
where cells.task = 'genre'
order by all
