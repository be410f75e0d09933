-- results.learning_curve: one row per run of flows.learning_curve, model, task, number of training rows and metric:
-- what those rows buy (value on the test split, slice 'all', with its 95 % interval ci_low to ci_high) and cost. The
-- test rows are always the same; the training rows are stratified by genre, and those of a smaller number are among
-- those of a larger. train_rows is NULL for all rows of the training split, which is an ordinary cell of results.cells;
-- the others are no cells of results.cells, so that nothing made from it mixes them in. A cell that failed has one row,
-- without metric. sampled_from and units are as in results.cells.
{% from "results/cell.sql" import identity %}
with

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
    {{ identity('cells') }},
    cells.budget,
    cells.train_rows,
    cells.n_train,
    cells.sampled_from,
    cells.status,
    cells.reused,
    cells.error,
    measured.metric,
    measured.value,
    measured.ci_low,
    measured.ci_high,
    cells.fit_seconds,
    cells.predict_seconds,
    cells.peak_rss_mb,
    runs.is_generated,
    cells.staging_version,
    cells.cell_key,
    cells.result
from reported_cells as cells
inner join results.runs as runs on cells.run_id = runs.run_id
left join measured
    on
        cells.result = measured.result
        and cells.task = measured.task
where cells.run_id in (select curves.run_id from reported_cells as curves where curves.train_rows is not null)
order by
    {{ identity('cells') }},
    cells.n_train nulls last,
    measured.metric
