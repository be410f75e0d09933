-- results.newest: the newest successful cell of results.cells for each catalogue, set of tracks (staging_version),
-- budget, protocol, task, model, feature set and seed, with what its run ran on. Of several seeds, those stand here
-- that share features and settings with the newest.
with

cells as (
    select
        cells.*,
        runs.started_at as run_started_at,
        runs.catalogue,
        runs.is_current,
        runs.is_generated,
        runs.is_study_file,
        runs.snapshot,
        first_value(cells.feature_version || cast(cells.params as varchar)) over (
            partition by
                runs.catalogue,
                cells.staging_version,
                cells.budget,
                cells.protocol,
                cells.task,
                cells.model,
                cells.feature_set
            order by runs.started_at desc, runs.run_id desc
        ) as newest_settings
    from results.cells as cells
    inner join results.runs as runs on cells.run_id = runs.run_id
    where cells.status = 'ok'
)

select * exclude (newest_settings)
from cells
where feature_version || cast(params as varchar) = newest_settings
qualify
    row_number() over (
        partition by catalogue, staging_version, budget, protocol, task, model, feature_set, seed
        order by run_started_at desc, run_id desc
    ) = 1
