-- results.catalogues: one row per catalogue that runs have read, the current one first. A catalogue is a file by its
-- path, a URL without secrets, or the generated sample, whatever it held at the time; what was appended to it belongs
-- to it. The champions, results.leaderboard, the known tracks and the report that no run is named for are of the
-- current one: that of the newest completed run with --as-current, else of the oldest completed run of real data, else
-- the sample. run_id: the newest completed run, which flows.report shows for the current catalogue; NULL: none is
-- completed.
select
    catalogue,
    is_current,
    arg_max(source, started_at) as source,
    bool_or(is_generated) as is_generated,
    count(*) as n_runs,
    max(started_at) as run_started_at,
    arg_max(run_id, started_at) filter (where status = 'completed') as run_id
from results.runs
group by catalogue, is_current
order by is_current desc, run_started_at desc
