-- The recordings that link artists: one row per recording and artist, for recordings with several artists. The artists
-- may stand in one track, or in different tracks of the same recording.
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
