-- What links artists: one row per recording and artist of it, of the recordings that have several, be it that one track
-- names them or that tracks of the same recording do.
with

pairs as (
    select distinct
        links.recording_id,
        artists.artist_id
    from features.track_links as links
    inner join features.track_artists as artists on links.track_id = artists.track_id
)

select *
from pairs
qualify count(*) over (partition by recording_id) > 1
