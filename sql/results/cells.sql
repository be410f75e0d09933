-- results.cells: one row per run, protocol, task, model, feature_set and seed, ended runs only. A multi-task model is
-- trained once and has two rows, for genre and for popularity, with the same cell_key and the same seconds.
-- Cells of learning curves that train on a part of the rows are in results.learning_curve instead, those of
-- cross-validations in results.fold_cells.
-- started_at to finished_at: when its process trained and scored it, in an earlier run if reused. model_sha256: of the
-- file at model_path, below the warehouse; NULL where no model is kept.
-- sampled_from: the number of training rows that the n_train rows are a stratified sample of; sample_reason says why.
-- NULL: they are all that the budget allows.
-- test_rows: a digest of the ids of its test rows. Cells with equal digests can be compared; NULL: with none.
-- Units: seconds; peak_rss_mb MiB of the process that trained it, or led the workers that did; n_train rows.
select * exclude (train_rows, fold, folds, fold_seed)
from reported_cells
where
    train_rows is null
    and fold is null
order by run_id, protocol, task, model, feature_set, seed
