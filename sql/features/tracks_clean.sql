-- features.tracks_clean: one row per track_id, missing values filled from features.fill_values, not standardized, with
-- its place in the split (models are trained in the order of position) and its genre's id.
-- The genre's own value where the protocol has one, else the value over all genres (genre NULL), else 0.
-- Units: tempo beats/min to 3 decimals, duration_ms milliseconds, key_code semitones above C.
with

tracks as (select * from staging.stg_tracks),

per_genre as (
    select
        genre,
        max(value) filter (where feature_name = 'tempo') as tempo,
        max(value) filter (where feature_name = 'duration_ms') as duration_ms,
        max(value) filter (where feature_name = 'key_code') as key_code
    from features.fill_values
    group by genre
),

over_all as (select * from per_genre where genre is null)

select
    $protocol as protocol,
    tracks.track_id,
    tracks.row_number,
    split.split,
    split.position,
    tracks.acousticness,
    tracks.danceability,
    coalesce(tracks.duration_ms, per_genre.duration_ms, over_all.duration_ms, 0) as duration_ms,
    tracks.energy,
    tracks.instrumentalness,
    coalesce(tracks.key_code, per_genre.key_code, over_all.key_code, 0) as key_code,
    tracks.liveness,
    tracks.loudness,
    tracks.mode_code,
    tracks.speechiness,
    round(coalesce(tracks.tempo, per_genre.tempo, over_all.tempo, 0), 3) as tempo,
    tracks.valence,
    tracks.popularity,
    tracks.music_genre,
    mapping.genre_id,
    tracks.is_tempo_missing or tracks.is_duration_missing or tracks.is_key_missing as is_imputed
from tracks
inner join features.split_assignment as split on tracks.track_id = split.track_id
inner join features.genre_mapping as mapping on tracks.music_genre = mapping.music_genre
left join per_genre on tracks.music_genre = per_genre.genre
left join over_all on true
