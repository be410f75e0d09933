-- results.drift: one row per statistic of a column, whenever tracks were compared with others, newest first: a new
-- snapshot of a source with the snapshot before it of the same catalogue (kind 'source'; of appended tracks the new
-- ones alone with those that they were appended to), and the tracks of a predicted file with the training rows of the
-- models that predicted them (kind 'predictions'). Both are as their files have them, missing values not filled.
-- statistic: distribution (of the values in the deciles of the reference rows, or of genres), missing (values), outside
-- (of the range of the reference rows), new genre, vanished genre. is_drifted: status is moderate or large.
select
    kind,
    measured_at,
    source,
    catalogue,
    is_generated,
    snapshot,
    reference,
    column_name,
    statistic,
    genre,
    bins,
    n_reference,
    n,
    reference_share,
    share,
    psi,
    psi_expected,
    psi_by_chance,
    psi_corrected,
    status,
    status in ('moderate', 'large') as is_drifted
from stored_drift
order by measured_at desc, source, column_name, statistic, genre
