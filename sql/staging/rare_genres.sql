-- staging.rare_genres: one row per genre with fewer than $min_genre_rows valid rows, which staging.stg_tracks drops.
select
    music_genre,
    count(*) as dropped_rows
from staging.typed_tracks
where
    music_genre is not null
    and row_number not in (select rejects.row_number from raw.rejects as rejects)
group by music_genre
having count(*) < $min_genre_rows
order by music_genre
