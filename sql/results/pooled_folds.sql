-- What results.cross_validations is made of: one row per run, complete cross-validation (every fold's cell is ok) of
-- a task and seed, and metric. value is the metric over the test rows of all folds together: means and squared
-- errors add up, macro averages are those of the summed confusion matrices, the calibration error that of the summed
-- bins. r2 and spearman, which compare a fold's rows with one another, are the mean over folds, weighted by rows.
-- is_newest: it is the newest of its catalogue, set of tracks, budget, protocol, task, model, feature set, division
-- into folds and seed, with the features and settings of the newest of any seed. whole names the cross-validation.
-- results: the cells' folders; test_rows and rows_by_fold: digests and numbers of the folds' rows.
{% from "results/cell.sql" import division %}
with

cells as (
    select
        cells.*,
        runs.started_at as run_started_at,
        runs.catalogue,
        runs.is_current,
        runs.is_generated,
        count(*) filter (where cells.status = 'ok') over whole as folds_ok,
        cells.run_id || '/' || first_value(cells.result) over (whole order by cells.fold) as whole,
        first_value(cells.feature_version || cast(cells.params as varchar)) over (whole order by cells.fold) as settings
    from results.fold_cells as cells
    inner join results.runs as runs on cells.run_id = runs.run_id
    window whole as (
        partition by
            cells.run_id, cells.protocol, cells.task, cells.model, cells.feature_set, cells.seed,
            {{ division("cells") }}
    )
),

complete as (
    select
        *,
        first_value(settings) over newest = settings
        and rank() over (
            partition by catalogue, staging_version, budget, protocol, task, model, feature_set, seed, settings,
                {{ division() }}
            order by run_started_at desc, run_id desc
        ) = 1 as is_newest
    from cells
    where folds_ok = folds
    window newest as (
        partition by catalogue, staging_version, budget, protocol, task, model, feature_set, {{ division() }}
        order by run_started_at desc, run_id desc
    )
),

measured as (
    select
        result,
        unnest(metrics, recursive := true)
    from stored_results
),

counted as (
    select
        result,
        unnest(confusion, recursive := true)
    from stored_results
),

confused as (
    select
        complete.whole,
        counted.true_genre,
        counted.predicted_genre,
        sum(counted.n) as n
    from complete
    inner join counted on complete.result = counted.result
    where
        complete.task = 'genre'
        and counted.split = 'test'
    group by complete.whole, counted.true_genre, counted.predicted_genre
),

by_side as (
    select
        *,
        unnest(list_distinct([true_genre, predicted_genre])) as genre
    from confused
),

by_genre as (
    select
        whole,
        genre,
        sum(n) filter (where genre = true_genre) as n_true,
        sum(n) filter (where genre = predicted_genre) as n_predicted,
        sum(n) filter (where true_genre = predicted_genre) as n_right
    from by_side
    group by whole, genre
),

macro as (
    select
        whole,
        avg(if(n_predicted > 0, n_right / n_predicted, 0)) as precision_macro,
        avg(if(n_true > 0, n_right / n_true, 0)) as recall_macro,
        avg(2 * n_right / (n_true + n_predicted)) as f1_macro
    from by_genre
    where n_true + n_predicted > 0
    group by whole
),

averaged as (
    unpivot macro
    on precision_macro, recall_macro, f1_macro
    into name metric value value
),

binned as (
    select
        result,
        unnest(calibration, recursive := true)
    from stored_results
),

bins as (
    select
        complete.whole,
        binned.bin,
        sum(binned.n) as n,
        sum(binned.n * (binned.confidence - binned.accuracy)) as surplus
    from complete
    inner join binned on complete.result = binned.result
    where
        complete.task = 'genre'
        and binned.split = 'test'
    group by complete.whole, binned.bin
),

summed as (
    select
        whole,
        metric,
        value
    from averaged
    union all
    select
        whole,
        'ece' as metric,
        sum(abs(surplus)) / sum(n) as value
    from bins
    group by whole
),

pooled as (
    select
        complete.whole,
        complete.task,
        measured.metric,
        case
            when count(measured.value) < count(*) then null
            when measured.metric = 'rmse' then sqrt(sum(measured.n * measured.value ** 2) / sum(measured.n))
            else sum(measured.n * measured.value) / sum(measured.n)
        end as value,
        stddev_samp(measured.value) as fold_sd,
        min(measured.value) as fold_low,
        max(measured.value) as fold_high,
        cast(sum(measured.n) as bigint) as n,
        list(complete.test_rows order by complete.fold) as test_rows,
        list(complete.result order by complete.fold) as results,
        list(measured.n order by complete.fold) as rows_by_fold,
        sum(complete.fit_seconds) as fit_seconds,
        sum(complete.predict_seconds) as predict_seconds,
        min(complete.n_train) as n_train
    from complete
    inner join measured
        on
            complete.result = measured.result
            and complete.task = measured.task
    where
        measured.split = 'test'
        and measured.slice = 'all'
    group by complete.whole, complete.task, measured.metric
)

select
    complete.catalogue,
    complete.staging_version,
    complete.budget,
    complete.protocol,
    complete.task,
    complete.model,
    complete.feature_set,
    {{ division("complete") }},
    complete.seed,
    pooled.* exclude (whole, task) replace (coalesce(summed.value, pooled.value) as value),
    complete.is_newest,
    complete.whole,
    complete.source,
    complete.is_current,
    complete.is_generated,
    complete.run_started_at as started_at,
    complete.run_id
from pooled
inner join complete
    on
        pooled.whole = complete.whole
        and pooled.task = complete.task
        and complete.fold = 1
left join summed
    on
        pooled.whole = summed.whole
        and pooled.metric = summed.metric
order by all
