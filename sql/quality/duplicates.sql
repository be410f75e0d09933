-- Of the data quality page: one row. Recordings are tracks with identical values of the ten audio features that are
-- never missing; n_tracks counts the tracks of those listed more than once, n_recordings the recordings, and
-- n_several_genres those of them that stand under more than one genre.
with

recordings as (
    select
        count(*) as n,
        count(distinct music_genre) as n_genres
    from staging.stg_tracks
    group by
        acousticness, danceability, energy, instrumentalness, key_code, liveness, loudness, mode_code, speechiness,
        valence
    having count(*) > 1
)

select
    cast(coalesce(sum(n), 0) as bigint) as n_tracks,
    count(*) as n_recordings,
    count(*) filter (where n_genres > 1) as n_several_genres
from recordings
