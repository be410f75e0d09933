-- Tracks of one artist, and tracks that are the same recording, are in the same split.
-- Rows: the artists and recordings that are on several sides.
with

links as (
    select
        'artist' as kind,
        artist_id as id,
        track_id
    from features.track_groups
    where artist_id is not null
    union all
    select
        'recording' as kind,
        recording_id as id,
        track_id
    from features.track_groups
)

select
    links.kind,
    links.id,
    count(*) as tracks
from links
inner join features.split_assignment as split on links.track_id = split.track_id
group by links.kind, links.id
having count(distinct split.split) > 1
