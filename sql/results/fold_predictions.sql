-- results.fold_predictions: one row per cell of results.fold_cells and row of its fold: the out-of-fold predictions,
-- each by a model that was not trained on the track. y_true and y_pred: as in results.predictions.
{% from "results/cell.sql" import identity %}
select
    {{ identity('cells', has_fold=true) }},
    predicted.track_id,
    predicted.y_true,
    predicted.y_pred,
    predicted.true_genre,
    predicted.predicted_genre
from results.fold_cells as cells
inner join {{ stored_predictions }} as predicted
    on
        cells.result = predicted.result
        and cells.task = predicted.task
where predicted.split = 'test'
