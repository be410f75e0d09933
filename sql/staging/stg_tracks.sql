-- staging.stg_tracks: one row per track_id. From staging.typed_tracks.
-- Dropped: rows without a genre (kept if no row has one), rows that are in raw.rejects, and the genres of
-- staging.rare_genres.
-- Units: tempo beats/min, duration_ms milliseconds, key_code semitones above C; NULL where missing.
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
from staging.typed_tracks
where
    case
        when music_genre is null then (select count(genres.music_genre) = 0 from staging.typed_tracks as genres)
        else music_genre not in (select rare.music_genre from staging.rare_genres as rare)
    end
    and row_number not in (select rejects.row_number from raw.rejects as rejects)
