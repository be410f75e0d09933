-- results.leak_ledger: what each leak is worth, on the test split, budget full only. One row per catalogue, set of
-- tracks (staging_version), leak, task, model, feature set and metric; figures are means over seeds.
-- inflation: with_leak minus without_leak, on the same test rows; inflation_low to inflation_high its 95 % interval.
-- Rows of leak 'imputation' (the study's: with_leak is protocol published, without_leak label_free, NULL where not
-- run) also have the figure under each protocol, and on the rows with a filled value (imputed) and without one
-- (observed). The other leaks are measured with one model; feature_set says what it was given.
with

by_slice as (
    select
        catalogue,
        staging_version,
        task,
        model,
        feature_set,
        metric,
        avg(value) filter (where protocol = 'published' and slice = 'all') as published_all,
        avg(value) filter (where protocol = 'published' and slice = 'imputed') as published_imputed,
        avg(value) filter (where protocol = 'published' and slice = 'observed') as published_observed,
        avg(value) filter (where protocol = 'label_free' and slice = 'all') as label_free_all,
        avg(value) filter (where protocol = 'cold_start' and slice = 'all') as cold_start_all,
        arg_max(source, started_at) as source,
        any_value(is_generated) as is_generated,
        arg_max(snapshot, started_at) as snapshot
    from results.latest
    where
        split = 'test'
        and budget = 'full'
        and feature_set in (select sets.feature_set from results.feature_sets as sets where sets.leaks is null)
        and protocol in ('published', 'label_free', 'cold_start')
    group by catalogue, staging_version, task, model, feature_set, metric
),

imputation as (
    select
        'imputation' as leak,
        by_slice.*,
        by_slice.published_all as with_leak,
        by_slice.label_free_all as without_leak,
        inflation.ci_low as inflation_low,
        inflation.ci_high as inflation_high
    from by_slice
    left join results.inflation as inflation
        on
            by_slice.catalogue = inflation.catalogue
            and by_slice.staging_version = inflation.staging_version
            and by_slice.task = inflation.task
            and by_slice.model = inflation.model
            and by_slice.feature_set = inflation.feature_set
            and by_slice.metric = inflation.metric
            and inflation.leak = 'imputation'
            and inflation.budget = 'full'
),

others as (
    select
        inflation.leak,
        inflation.catalogue,
        inflation.staging_version,
        inflation.task,
        inflation.model,
        inflation.feature_set,
        inflation.metric,
        inflation.value_a as with_leak,
        inflation.value_b as without_leak,
        inflation.ci_low as inflation_low,
        inflation.ci_high as inflation_high,
        figures.source,
        figures.is_generated,
        figures.snapshot
    from results.inflation as inflation
    inner join results.figures as figures
        on
            inflation.catalogue = figures.catalogue
            and inflation.staging_version = figures.staging_version
            and inflation.task = figures.task
            and inflation.model = figures.model
            and inflation.feature_set = figures.feature_set
            and inflation.metric = figures.metric
            and inflation.budget = figures.budget
            and inflation.results_a = figures.results
    where
        inflation.leak <> 'imputation'
        and inflation.budget = 'full'
),

ledger as (
    select * from imputation
    union all by name
    select * from others
)

select
    leak,
    task,
    model,
    feature_set,
    metric,
    with_leak,
    without_leak,
    with_leak - without_leak as inflation,
    inflation_low,
    inflation_high,
    published_all,
    published_imputed,
    published_observed,
    label_free_all,
    cold_start_all,
    source,
    catalogue,
    is_generated,
    snapshot,
    staging_version
from ledger
order by is_generated, catalogue, staging_version, leak <> 'imputation', leak, task, metric, with_leak desc
