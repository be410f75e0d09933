-- features.track_links: one row per track_id. Tracks have the same recording_id, the lowest track_id among them, if the
-- ten audio features that are never missing are identical. content_hash orders tracks by their content, not by their
-- place in the file.
select
    track_id,
    min(track_id) over (
        partition by
            acousticness, danceability, energy, instrumentalness, key_code, liveness, loudness, mode_code, speechiness,
            valence
    ) as recording_id,
    md5_number_lower(
        concat_ws(
            '|',
            artist_name,
            track_name,
            music_genre,
            popularity,
            tempo,
            duration_ms,
            acousticness,
            danceability,
            energy,
            instrumentalness,
            key_code,
            liveness,
            loudness,
            mode_code,
            speechiness,
            valence
        )
    ) as content_hash
from staging.stg_tracks
