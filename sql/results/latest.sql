-- results.latest: results.metrics of the newest successful cell for each set of tracks (staging_version), budget,
-- protocol, task, model, feature set and seed, with what the run ran on.
select
    metrics.*,
    cells.budget,
    runs.source,
    runs.is_generated,
    runs.is_study_file,
    runs.snapshot,
    cells.staging_version,
    cells.fit_seconds,
    cells.predict_seconds,
    cells.peak_rss_mb,
    cells.n_train
from results.metrics as metrics
inner join results.cells as cells
    on
        metrics.run_id = cells.run_id
        and metrics.protocol = cells.protocol
        and metrics.task = cells.task
        and metrics.model = cells.model
        and metrics.feature_set = cells.feature_set
        and metrics.seed = cells.seed
inner join results.runs as runs on metrics.run_id = runs.run_id
where cells.status = 'ok'
qualify
    dense_rank() over (
        partition by
            cells.staging_version,
            cells.budget,
            metrics.protocol,
            metrics.task,
            metrics.model,
            metrics.feature_set,
            metrics.seed
        order by runs.started_at desc, runs.run_id desc
    ) = 1
