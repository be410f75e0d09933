-- results.cells: one row per run, protocol, task, model, feature_set and seed, ended runs only. The multitask model is
-- trained once and has two rows, for genre and for popularity, with the same cell_key and the same seconds.
-- Cells of learning curves that train on a part of the rows are in results.learning_curve instead.
-- started_at to finished_at: when its process trained and scored it, in an earlier run if reused. model_sha256: of the
-- file at model_path, below the warehouse; NULL where no model is kept.
-- sampled_from: so many training rows those n_train are a stratified sample of, because of sample_reason; NULL: they
-- are all that the budget allows.
-- Units: seconds; peak_rss_mb MiB of the process that trained it; n_train rows.
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
        unnest(case when cell.task = 'multitask' then ['genre', 'popularity'] else [cell.task] end) as task
    from ended
    where cell.train_rows is null
)

select
    reported.run_id,
    reported.cell.protocol as protocol,
    reported.task,
    reported.cell.model as model,
    reported.cell.feature_set as feature_set,
    reported.cell.seed as seed,
    reported.cell.budget as budget,
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
    trained.model_path,
    trained.model_sha256,
    trained.started_at,
    trained.finished_at,
    reported.cell.result as result
from reported
left join stored_results as trained on reported.cell.result = trained.result
order by reported.run_id, protocol, reported.task, model, feature_set, seed
