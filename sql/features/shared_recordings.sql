-- What links artists: one row per recording and known artist, of the recordings that are listed under several.
with

pairs as (
    select distinct
        recording_id,
        artist_id
    from features.track_links
    where artist_id is not null
)

select *
from pairs
qualify count(*) over (partition by recording_id) > 1
