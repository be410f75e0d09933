-- Whether a statistic drifted: one row per statistic and column of drift_counts (statistic, column_name, bin,
-- n_reference, n), by its population stability index (PSI). Dropped: what has no value on one of the sides. psi: the
-- sum over bins of (share - reference_share) * ln(share / reference_share), where a share is at least 0.0001 (as in
-- Evidently) and at least half a row's (Anscombe 1956), so that an empty bin has a logarithm. With the first floor an
-- empty bin counts the same in any number of rows; without the second it would count for too much in few. Of two
-- samples of one distribution, psi / (1 / n + 1 / n_reference) is distributed about as chi-squared with bins - 1
-- degrees of freedom (Yurdakul 2018, Statistical Properties of Population Stability Index). psi_expected is the mean
-- of that, and psi_by_chance what is exceeded with probability $chance ($z: the same of the normal distribution; by
-- the cube-root approximation of Wilson and Hilferty 1931). psi_corrected: psi without psi_expected, at least 0.
-- status: 'too few rows' if chance alone gives $large; else 'stable', unless psi is beyond chance and psi_corrected at
-- least $moderate or $large, which give the status.
with

totals as (
    select
        *,
        sum(n_reference) over (partition by statistic, column_name) as rows_reference,
        sum(n) over (partition by statistic, column_name) as rows_now
    from drift_counts
),

shares as (
    select
        *,
        greatest(n_reference / rows_reference, 0.5 / rows_reference, 0.0001) as floored_reference,
        greatest(n / rows_now, 0.5 / rows_now, 0.0001) as floored
    from totals
    where rows_reference > 0 and rows_now > 0
),

sums as (
    select
        statistic,
        column_name,
        count(*) as bins,
        cast(any_value(rows_reference) as bigint) as n_reference,
        cast(any_value(rows_now) as bigint) as n,
        any_value(n_reference / rows_reference) filter (where bin = 'yes' and statistic <> 'distribution')
            as reference_share,
        any_value(n / rows_now) filter (where bin = 'yes' and statistic <> 'distribution') as share,
        sum((floored - floored_reference) * ln(floored / floored_reference)) as psi,
        1 / any_value(rows_now) + 1 / any_value(rows_reference) as unit,
        greatest(count(*) - 1, 1) as freedom
    from shares
    group by statistic, column_name
),

by_chance as (
    select
        *,
        freedom * unit as psi_expected,
        freedom * unit * pow(1 - 2 / (9 * freedom) + $z * sqrt(2 / (9 * freedom)), 3) as psi_by_chance,
        greatest(psi - psi_expected, 0) as psi_corrected
    from sums
)

select
    column_name,
    statistic,
    cast(null as varchar) as genre,
    bins,
    n_reference,
    n,
    reference_share,
    share,
    psi,
    psi_expected,
    psi_by_chance,
    psi_corrected,
    case
        when psi_by_chance > $large then 'too few rows'
        when psi > psi_by_chance and psi_corrected >= $large then 'large'
        when psi > psi_by_chance and psi_corrected >= $moderate then 'moderate'
        else 'stable'
    end as status
from by_chance
