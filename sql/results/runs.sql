-- results.runs: one row per run ever started. From the runs' start and end records.
-- status: completed, failed (every cell, or the run itself), interrupted, running, or killed (no end record and its
-- process is gone). flow_run_id: of Prefect's flow run. runner: local or dask; it and the thread budget (cells_at_once,
-- threads_per_cell) are NULL for runs that did not record them. is_current: it is of the current catalogue (see
-- results.catalogues); a run of another one is a trial.
select
    started.run_id,
    started.started_at,
    finished.finished_at,
    case
        when finished.status is not null then finished.status
        when started.is_alive then 'running'
        else 'killed'
    end as status,
    started.budget,
    started.source,
    started.catalogue,
    started.is_of_current as is_current,
    started.is_generated,
    started.is_study_file,
    started.snapshot,
    started.git_commit,
    cast(started.versions as json) as versions,
    started.cpu_count,
    started.flow_run_id,
    started.runner,
    started.cells_at_once,
    started.threads_per_cell
from stored_started as started
left join stored_finished as finished on started.run_id = finished.run_id
order by started.started_at
