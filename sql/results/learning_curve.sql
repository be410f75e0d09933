-- results.learning_curve: one row per run of flows.learning_curve, model, task, number of training rows and metric:
-- what those rows buy (value on the test split, slice 'all', with its 95 % interval ci_low to ci_high) and cost. The
-- test rows are always the same; the training rows are stratified by genre, and those of a smaller number are among
-- those of a larger. train_rows is NULL for all rows of the training split, which is an ordinary cell of results.cells;
-- the others are no cells of results.cells, so that nothing made from it mixes them in. A cell that failed has one row,
-- without metric. Units: fit_seconds, predict_seconds seconds; peak_rss_mb MiB.
with

ended as (
    select
        run_id,
        unnest(cells) as cell
    from stored_finished
),

curves as (
    select ended.run_id
    from ended
    where ended.cell.train_rows is not null
    group by ended.run_id
),

reported as (
    select
        ended.run_id,
        ended.cell,
        unnest(if(ended.cell.task = 'multitask', ['genre', 'popularity'], [ended.cell.task])) as task
    from ended
    inner join curves on ended.run_id = curves.run_id
),

scored as (
    select
        result,
        unnest(metrics, recursive := true)
    from stored_results
),

measured as (
    select *
    from scored
    where
        split = 'test'
        and slice = 'all'
)

select
    reported.run_id,
    reported.cell.protocol as protocol,
    reported.task,
    reported.cell.model as model,
    reported.cell.feature_set as feature_set,
    reported.cell.seed as seed,
    reported.cell.budget as budget,
    reported.cell.train_rows as train_rows,
    trained.n_train,
    reported.cell.status as status,
    reported.cell.reused as reused,
    reported.cell.error as error,
    measured.metric,
    measured.value,
    measured.ci_low,
    measured.ci_high,
    trained.fit_seconds,
    trained.predict_seconds,
    trained.peak_rss_mb,
    runs.source,
    runs.is_generated,
    reported.cell.staging_version as staging_version,
    reported.cell.cell_key as cell_key,
    reported.cell.result as result
from reported
inner join results.runs as runs on reported.run_id = runs.run_id
left join stored_results as trained on reported.cell.result = trained.result
left join measured
    on
        reported.cell.result = measured.result
        and reported.task = measured.task
order by
    reported.run_id,
    protocol,
    reported.task,
    model,
    feature_set,
    seed,
    trained.n_train nulls last,
    measured.metric
