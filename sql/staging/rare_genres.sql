-- staging.rare_genres: one row per genre that staging.stg_tracks drops, having fewer than $min_genre_rows sound rows.
select
    typed.music_genre,
    count(*) as dropped_rows
from staging.typed_tracks as typed
anti join raw.rejects as rejects on typed.row_number = rejects.row_number
where typed.music_genre is not null
group by typed.music_genre
having count(*) < $min_genre_rows
order by typed.music_genre
