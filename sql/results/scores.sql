-- results.scores: one row per successful cell of results.cells, its metrics on the test split, slice 'all', as
-- columns, each with its 95 % interval (_low, _high).
{% from "results/cell.sql" import same_cell %}
select
    cells.task,
    cells.protocol,
    cells.budget,
    cells.model,
    cells.feature_set,
    cells.seed,
    {% for metric in metrics %}
    max(metrics.value) filter (where metrics.metric = '{{ metric }}') as {{ metric }},
    {% endfor %}
    {% for metric in metrics %}
    max(metrics.ci_low) filter (where metrics.metric = '{{ metric }}') as {{ metric }}_low,
    max(metrics.ci_high) filter (where metrics.metric = '{{ metric }}') as {{ metric }}_high,
    {% endfor %}
    cells.fit_seconds,
    cells.predict_seconds,
    cells.peak_rss_mb,
    cells.n_train,
    cells.sampled_from,
    cells.sample_reason,
    cells.reused,
    cells.source,
    runs.catalogue,
    runs.is_current,
    runs.is_generated,
    runs.snapshot,
    cells.staging_version,
    runs.started_at,
    cells.run_id
from results.cells as cells
inner join results.runs as runs on cells.run_id = runs.run_id
inner join results.metrics as metrics
    on
        {{ same_cell('cells', 'metrics') }}
where
    cells.status = 'ok'
    and metrics.split = 'test'
    and metrics.slice = 'all'
group by all
