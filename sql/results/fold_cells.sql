-- results.fold_cells: one row per cell of a cross-validation: run, protocol, task, model, feature_set, seed and fold (1
-- to folds), ended runs only. The cell is trained without the rows of its fold (features.fold_assignment) and tested on
-- them. Other columns and units are as in results.cells; no model is kept.
{% from "results/cell.sql" import division %}
select
    run_id,
    protocol,
    task,
    model,
    feature_set,
    seed,
    fold,
    {{ division() }},
    * exclude (
        run_id, protocol, task, model, feature_set, seed, fold, {{ division() }}, train_rows, model_path, model_sha256
    )
from reported_cells
where fold is not null
order by run_id, protocol, task, model, feature_set, seed, fold
