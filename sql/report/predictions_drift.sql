-- Of the report: one row per predicted file and set of training rows of the catalogue that run $run_id read, newest
-- first: how many statistics were compared and drifted, and which, the largest PSI first.
select
    drift.measured_at,
    drift.source,
    drift.reference,
    count(*) as n_statistics,
    count(*) filter (where drift.is_drifted) as n_drifted,
    max(drift.n) as n_rows,
    bool_and(drift.status = 'too few rows') filter (where drift.statistic = 'distribution') as has_few_rows,
    max(drift.psi_corrected) as psi,
    string_agg(drift.column_name || ' (' || drift.statistic || ')', ', ' order by drift.psi_corrected desc)
        filter (where drift.is_drifted) as drifted
from results.drift as drift
inner join results.runs as runs on drift.catalogue = runs.catalogue
where runs.run_id = $run_id and drift.kind = 'predictions'
group by drift.measured_at, drift.source, drift.reference
order by drift.measured_at desc, drift.reference
