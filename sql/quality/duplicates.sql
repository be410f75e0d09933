-- For the data quality page: one row about recordings that stand in several tracks. A recording is all tracks with
-- identical values of the ten audio features that are never missing. n_tracks: the number of such tracks. n_recordings:
-- the number of such recordings. n_several_genres: how many of the recordings have more than one genre.
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
