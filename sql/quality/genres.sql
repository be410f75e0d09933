-- Of the data quality page: one row per genre with its sound rows, the most frequent first; those of
-- staging.rare_genres were dropped.
select
    music_genre,
    count(*) as n,
    false as is_dropped
from staging.stg_tracks
group by music_genre
union all
select
    music_genre,
    cast(sum(dropped_rows) as bigint) as n,
    true as is_dropped
from staging.rare_genres
group by music_genre
order by is_dropped, n desc, music_genre
