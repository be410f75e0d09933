-- results.scores: one row per successful cell of results.cells, its metrics on the test split, slice 'all', as columns.
select
    cells.task,
    cells.protocol,
    cells.budget,
    cells.model,
    cells.feature_set,
    cells.seed,
    max(metrics.value) filter (where metrics.metric = 'accuracy') as accuracy,
    max(metrics.value) filter (where metrics.metric = 'precision_macro') as precision_macro,
    max(metrics.value) filter (where metrics.metric = 'recall_macro') as recall_macro,
    max(metrics.value) filter (where metrics.metric = 'f1_macro') as f1_macro,
    max(metrics.value) filter (where metrics.metric = 'rmse') as rmse,
    max(metrics.value) filter (where metrics.metric = 'mae') as mae,
    max(metrics.value) filter (where metrics.metric = 'r2') as r2,
    max(metrics.value) filter (where metrics.metric = 'spearman') as spearman,
    cells.fit_seconds,
    cells.predict_seconds,
    cells.peak_rss_mb,
    cells.n_train,
    cells.reused,
    runs.source,
    runs.is_generated,
    runs.snapshot,
    cells.staging_version,
    runs.started_at,
    cells.run_id
from results.cells as cells
inner join results.runs as runs on cells.run_id = runs.run_id
inner join results.metrics as metrics
    on
        cells.run_id = metrics.run_id
        and cells.protocol = metrics.protocol
        and cells.task = metrics.task
        and cells.model = metrics.model
        and cells.feature_set = metrics.feature_set
        and cells.seed = metrics.seed
where
    cells.status = 'ok'
    and metrics.split = 'test'
    and metrics.slice = 'all'
group by all
