-- results.latest: results.metrics of the cells of results.newest, with what their runs ran on.
{% from "results/cell.sql" import same_cell %}
select
    metrics.*,
    newest.budget,
    newest.catalogue,
    newest.is_current,
    newest.is_generated,
    newest.is_study_file,
    newest.snapshot,
    newest.staging_version,
    newest.run_started_at as started_at,
    newest.fit_seconds,
    newest.predict_seconds,
    newest.peak_rss_mb,
    newest.n_train,
    newest.sampled_from,
    newest.sample_reason,
    newest.test_rows,
    newest.result
from results.metrics as metrics
inner join results.newest as newest
    on
        {{ same_cell('metrics', 'newest') }}
