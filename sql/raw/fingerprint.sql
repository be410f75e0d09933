-- One number for the content of staging.typed_tracks, whatever file format it came in: order, ids, values and genres
-- count.
select
    bit_xor(
        md5_number_lower(
            concat_ws(
                '|', row_number, track_id, popularity, acousticness, danceability, coalesce(duration_ms, -1), energy,
                instrumentalness, key_code, liveness, loudness, mode_code, speechiness, coalesce(tempo, -1), valence,
                music_genre
            )
        )
    ) as fingerprint
from staging.typed_tracks
