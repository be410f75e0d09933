-- Of the report: results.drift of the snapshot that run $run_id read, compared with the one before it. What drifted
-- comes first, then by PSI.
select drift.*
from results.drift as drift
inner join results.runs as runs on drift.snapshot = runs.snapshot
where runs.run_id = $run_id
order by
    drift.status = 'large' desc,
    drift.status = 'moderate' desc,
    drift.psi_corrected desc,
    drift.column_name,
    drift.statistic,
    drift.genre
