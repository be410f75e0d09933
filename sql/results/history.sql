-- results.history: one row per cell of results.cells, member (which net of a model that trains several, from 1) and
-- epoch (from 1), of models trained in epochs. loss, val_loss: as the net defines its loss, on training (dropout
-- included) and validation rows; val_loss is NULL where the model does not watch validation.
{% from "results/cell.sql" import identity %}
with

measured as (
    select
        result,
        unnest(history, recursive := true)
    from stored_results
)

select
    {{ identity('cells') }},
    measured.member,
    measured.epoch,
    measured.loss,
    measured.val_loss
from results.cells as cells
inner join measured on cells.result = measured.result
order by all
