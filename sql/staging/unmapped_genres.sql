-- staging.rare_genres for rows that were appended with the statistics of their base: one row per genre that is not in
-- the base's features.genre_mapping, because it is new or was too rare. staging.stg_tracks drops these genres.
select
    music_genre,
    count(*) as dropped_rows
from staging.typed_tracks
where
    music_genre is not null
    and music_genre not in (select mapping.music_genre from features.genre_mapping as mapping)
    and row_number not in (select rejects.row_number from raw.rejects as rejects)
group by music_genre
order by music_genre
