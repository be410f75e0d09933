-- results.predictions: one row per cell of results.cells and row of its val and test splits.
-- y_true and y_pred: popularity points, or genre_id of features.genre_mapping, whose names stand in *_genre.
{% from "results/cell.sql" import identity %}
select
    {{ identity('cells') }},
    predicted.split,
    predicted.track_id,
    predicted.y_true,
    predicted.y_pred,
    predicted.true_genre,
    predicted.predicted_genre
from results.cells as cells
inner join {{ stored_predictions }} as predicted
    on
        cells.result = predicted.result
        and cells.task = predicted.task
