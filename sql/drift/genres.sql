-- The distribution of the genre: one row per genre that is in the reference rows or in the current rows.
with

genres as (
    select
        'reference' as side,
        music_genre
    from reference_rows
    union all
    select
        'current' as side,
        music_genre
    from current_rows
)

select
    'distribution' as statistic,
    'music_genre' as column_name,
    music_genre as bin,
    count(*) filter (where side = 'reference') as n_reference,
    count(*) filter (where side = 'current') as n
from genres
where music_genre is not null
group by music_genre
