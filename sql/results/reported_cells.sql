-- What results.cells and results.learning_curve are made from: one row per run, protocol, task, model, feature_set,
-- seed, number of training rows and fold, ended runs only. Columns as in results.cells. So is results.fold_cells.
with

ended as (
    select
        run_id,
        unnest(cells) as cell
    from stored_finished
),

reported as (
    select
        ended.run_id,
        ended.cell,
        unnest(if(ended.cell.task = 'multitask', ['genre', 'popularity'], [ended.cell.task])) as task
    from ended
)

select
    reported.run_id,
    reported.cell.protocol as protocol,
    reported.task,
    reported.cell.model as model,
    reported.cell.feature_set as feature_set,
    reported.cell.seed as seed,
    started.source,
    reported.cell.budget as budget,
    reported.cell.train_rows as train_rows,
    reported.cell.fold as fold,
    reported.cell.folds as folds,
    if(reported.cell.fold is not null, coalesce(reported.cell.fold_seed, {{ study_seed }}), null) as fold_seed,
    reported.cell.status as status,
    reported.cell.reused as reused,
    reported.cell.error as error,
    trained.fit_seconds,
    trained.predict_seconds,
    trained.peak_rss_mb,
    trained.n_train,
    trained.sampled_from,
    trained.sample_reason,
    cast(reported.cell.params as json) as params,
    reported.cell.feature_version as feature_version,
    reported.cell.staging_version as staging_version,
    reported.cell.cell_key as cell_key,
    trained.test_rows,
    trained.model_path,
    trained.model_sha256,
    trained.started_at,
    trained.finished_at,
    reported.cell.result as result
from reported
inner join stored_started as started on reported.run_id = started.run_id
left join stored_results as trained on reported.cell.result = trained.result
