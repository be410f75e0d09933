-- features.track_links: one row per track_id. Two tracks share recording_id if their ten never-missing
-- audio features are identical: it is the lowest track_id of those that do.
-- content_hash orders tracks by what they hold, not by where they stand in the file.
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
