-- What results.cross_validated is made of: one row per complete cross-validation (every fold's cell is ok) of a task
-- and seed, and metric; the newest of each catalogue, set of tracks, budget, protocol, task, model, feature set,
-- number of folds and seed. value is the metric over the test rows of all folds together: means and squared errors
-- add up, macro averages are those of the summed confusion matrices, the calibration error that of the summed bins.
-- r2 and spearman, which compare a fold's rows with one another, are the mean over folds, weighted by rows. results:
-- the cells' folders; weights: each fold's share of the rows. whole: the first of the folders, which stands for the
-- cross-validation.
with

cells as (
    select
        cells.*,
        runs.started_at as run_started_at,
        runs.catalogue,
        runs.is_current,
        runs.is_generated,
        count(*) filter (where cells.status = 'ok') over whole as folds_ok,
        first_value(cells.result) over (whole order by cells.fold) as whole
    from results.fold_cells as cells
    inner join results.runs as runs on cells.run_id = runs.run_id
    window whole as (
        partition by
            cells.run_id, cells.protocol, cells.task, cells.model, cells.feature_set, cells.seed, cells.folds
    )
),

newest as (
    select *
    from cells
    where folds_ok = folds
    qualify
        rank() over (
            partition by catalogue, staging_version, budget, protocol, task, model, feature_set, folds, seed
            order by run_started_at desc, run_id desc
        ) = 1
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
        newest.whole,
        counted.true_genre,
        counted.predicted_genre,
        sum(counted.n) as n
    from newest
    inner join counted on newest.result = counted.result
    where
        newest.task = 'genre'
        and counted.split = 'test'
    group by newest.whole, counted.true_genre, counted.predicted_genre
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
        newest.whole,
        binned.bin,
        sum(binned.n) as n,
        sum(binned.n * (binned.confidence - binned.accuracy)) as surplus
    from newest
    inner join binned on newest.result = binned.result
    where
        newest.task = 'genre'
        and binned.split = 'test'
    group by newest.whole, binned.bin
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
        newest.whole,
        newest.task,
        measured.metric,
        case
            when count(measured.value) < count(*) then null
            when measured.metric = 'rmse' then sqrt(sum(measured.n * measured.value ** 2) / sum(measured.n))
            else sum(measured.n * measured.value) / sum(measured.n)
        end as value,
        stddev_samp(measured.value) as fold_sd,
        min(measured.value) as fold_low,
        max(measured.value) as fold_high,
        sum(measured.n) as n,
        avg(measured.n / newest.n_train) as test_to_train,
        list(newest.result order by newest.fold) as results,
        list_transform(list(measured.n order by newest.fold), lambda one: one / list_sum(list(measured.n))) as weights,
        sum(newest.fit_seconds) as fit_seconds,
        sum(newest.predict_seconds) as predict_seconds,
        min(newest.n_train) as n_train
    from newest
    inner join measured
        on
            newest.result = measured.result
            and newest.task = measured.task
    where
        measured.split = 'test'
        and measured.slice = 'all'
    group by newest.whole, newest.task, measured.metric
)

select
    newest.catalogue,
    newest.staging_version,
    newest.budget,
    newest.protocol,
    newest.task,
    newest.model,
    newest.feature_set,
    newest.folds,
    newest.seed,
    pooled.* exclude (whole, task) replace (
        if(newest.task = 'genre', coalesce(summed.value, pooled.value), pooled.value) as value
    ),
    newest.whole,
    newest.source,
    newest.is_current,
    newest.is_generated,
    newest.run_started_at as started_at,
    newest.run_id
from pooled
inner join newest
    on
        pooled.whole = newest.result
        and pooled.task = newest.task
left join summed
    on
        pooled.whole = summed.whole
        and pooled.metric = summed.metric
order by all
