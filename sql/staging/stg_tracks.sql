-- staging.stg_tracks: one row per track_id, in the order of row_number. From staging.typed_tracks.
-- Dropped: rows without a genre, rows that stand in raw.rejects, and genres with fewer than $min_genre_rows rows.
-- Units: tempo beats/min, duration_ms milliseconds, key_code semitones above C; NULL where missing.
with

valid as materialized (
    select typed.*
    from staging.typed_tracks as typed
    anti join raw.rejects as rejects on typed.row_number = rejects.row_number
    where typed.music_genre is not null
),

common_genres as (
    select music_genre
    from valid
    group by music_genre
    having count(*) >= $min_genre_rows
)

select
    track_id,
    row_number,
    artist_name,
    track_name,
    acousticness,
    danceability,
    duration_ms,
    energy,
    instrumentalness,
    key_code,
    liveness,
    loudness,
    mode_code,
    speechiness,
    tempo,
    valence,
    popularity,
    music_genre,
    is_tempo_missing,
    is_duration_missing,
    is_key_missing
from valid
where music_genre in (select music_genre from common_genres)
order by row_number
