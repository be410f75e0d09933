-- New and vanished genres: one row per genre of drift_counts that only the current rows or only the reference rows have.
-- status: 'large' if chance does not explain that, else 'too few rows'. A genre of share p is in none of n rows with
-- probability exp(-n p); of all genres together that is to be less than $chance (Bonferroni).
with

counted as (
    select
        bin as genre,
        n_reference,
        n,
        count(*) over () as bins,
        sum(n_reference) over () as rows_reference,
        sum(n) over () as rows_now
    from drift_counts
    where statistic = 'distribution' and column_name = 'music_genre'
)

select
    'music_genre' as column_name,
    if(n_reference = 0, 'new genre', 'vanished genre') as statistic,
    genre,
    bins,
    cast(rows_reference as bigint) as n_reference,
    cast(rows_now as bigint) as n,
    n_reference / rows_reference as reference_share,
    n / rows_now as share,
    cast(null as double) as psi,
    cast(null as double) as psi_expected,
    cast(null as double) as psi_by_chance,
    cast(null as double) as psi_corrected,
    if(
        greatest(n_reference / rows_reference * rows_now, n / rows_now * rows_reference) > ln(bins / $chance),
        'large',
        'too few rows'
    ) as status
from counted
where (n_reference = 0 or n = 0) and rows_reference > 0 and rows_now > 0
