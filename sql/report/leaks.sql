-- Of the report: one row per leak, task, model, feature set and headline metric of results.inflation for the tracks and
-- the budget of the run; with_leak and without_leak are of the same test rows. Budget full alone has the figures of
-- results.leak_ledger, too: on rows with a filled value, on the others, and under cold_start.
select
    inflation.leak,
    inflation.task,
    inflation.model,
    inflation.feature_set,
    inflation.metric,
    inflation.value_a as with_leak,
    inflation.value_b as without_leak,
    inflation.value_a - inflation.value_b as inflation,
    inflation.ci_low as inflation_low,
    inflation.ci_high as inflation_high,
    ledger.published_imputed,
    ledger.published_observed,
    ledger.cold_start_all
from results.inflation as inflation
inner join results.runs as runs on inflation.catalogue = runs.catalogue and inflation.budget = runs.budget
left join results.leak_ledger as ledger
    on
        inflation.budget = 'full'
        and inflation.catalogue = ledger.catalogue
        and inflation.leak = ledger.leak
        and inflation.staging_version = ledger.staging_version
        and inflation.task = ledger.task
        and inflation.model = ledger.model
        and inflation.feature_set = ledger.feature_set
        and inflation.metric = ledger.metric
where
    runs.run_id = $run_id
    and inflation.metric in ({{ headlines }})
    and inflation.staging_version in (
        select cells.staging_version from results.cells as cells where cells.run_id = $run_id
    )
order by
    inflation.leak <> 'imputation',
    inflation.leak,
    inflation.task,
    abs(inflation.value_a - inflation.value_b) desc,
    inflation.model,
    inflation.feature_set
