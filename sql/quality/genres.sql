-- For the data quality page: one row per genre with its number of valid rows, the most frequent first. is_dropped: the
-- genre is in staging.rare_genres.
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
